CREATE TABLE public.audit_log (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    "timestamp" timestamp with time zone NOT NULL,
    action text NOT NULL,
    identity_type text NOT NULL,
    identity_id text NOT NULL COLLATE pg_catalog."C",
    acting_tenant_id text NOT NULL COLLATE pg_catalog."C",
    resource_type text,
    resource_id text,
    secret_path text COLLATE pg_catalog."C",
    source_ip text,
    user_agent text,
    success boolean NOT NULL,
    error_code text,
    duration_ms bigint NOT NULL,
    request_id text NOT NULL COLLATE pg_catalog."C",
    extra_data jsonb NOT NULL
);
CREATE TABLE public.event_outbox (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    event_type text NOT NULL,
    path text,
    identity_id text NOT NULL,
    request_id text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.partner_key (
    id text NOT NULL COLLATE pg_catalog."C",
    partner_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.pki_ca (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    name_key text NOT NULL COLLATE pg_catalog."C",
    common_name text NOT NULL,
    ca_type text NOT NULL,
    parent_ca_id text COLLATE pg_catalog."C",
    key_spec text NOT NULL,
    certificate bytea NOT NULL,
    serial bytea NOT NULL,
    key_ciphertext bytea NOT NULL,
    key_wrapped_key bytea NOT NULL,
    key_id text NOT NULL COLLATE pg_catalog."C",
    not_before timestamp with time zone NOT NULL,
    not_after timestamp with time zone NOT NULL,
    is_active boolean NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.pki_certificate (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    ca_id text NOT NULL COLLATE pg_catalog."C",
    serial bytea NOT NULL,
    role text,
    common_name text,
    alt_names jsonb NOT NULL,
    ip_sans jsonb NOT NULL,
    certificate bytea NOT NULL,
    fingerprint_sha256 bytea NOT NULL,
    not_before timestamp with time zone NOT NULL,
    not_after timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    revocation_reason text,
    source text NOT NULL,
    issued_to text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    key_ciphertext bytea,
    key_wrapped_key bytea,
    key_id text COLLATE pg_catalog."C"
);
CREATE TABLE public.pki_crl (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    ca_id text NOT NULL COLLATE pg_catalog."C",
    number bigint NOT NULL,
    crl bytea NOT NULL,
    this_update timestamp with time zone NOT NULL,
    next_update timestamp with time zone NOT NULL,
    due_at timestamp with time zone NOT NULL,
    claimed_until timestamp with time zone
);
CREATE TABLE public.pki_role (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    ca_id text NOT NULL COLLATE pg_catalog."C",
    config jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.policy (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    name_key text NOT NULL COLLATE pg_catalog."C",
    description text NOT NULL,
    rules jsonb NOT NULL,
    rule_count bigint NOT NULL,
    is_active boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.policy_binding (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    policy_id text NOT NULL COLLATE pg_catalog."C",
    identity_type text NOT NULL,
    identity_id text NOT NULL COLLATE pg_catalog."C",
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);
CREATE TABLE public.secret (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    secret_type text NOT NULL,
    current_version bigint NOT NULL,
    max_versions bigint NOT NULL,
    metadata jsonb NOT NULL,
    notify_before text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    deleted_at timestamp with time zone,
    last_accessed_at timestamp with time zone
);
CREATE TABLE public.secret_tag (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    secret_id text NOT NULL COLLATE pg_catalog."C",
    tag text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.secret_version (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    secret_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    ciphertext bytea NOT NULL,
    wrapped_key bytea NOT NULL,
    key_id text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL
);
CREATE TABLE public.tenant (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    partner_id text NOT NULL COLLATE pg_catalog."C",
    partner_named boolean NOT NULL,
    policy_epoch bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.tenant_key (
    id text NOT NULL COLLATE pg_catalog."C",
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    partner_key_id text NOT NULL COLLATE pg_catalog."C",
    wrapped bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (tenant_id, "timestamp", id);
ALTER TABLE ONLY public.event_outbox
    ADD CONSTRAINT event_outbox_pkey PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.partner_key
    ADD CONSTRAINT partner_key_partner_id_version_key UNIQUE (partner_id, version);
ALTER TABLE ONLY public.partner_key
    ADD CONSTRAINT partner_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pki_ca
    ADD CONSTRAINT pki_ca_pkey PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.pki_ca
    ADD CONSTRAINT pki_ca_tenant_id_name_key_key UNIQUE (tenant_id, name_key);
ALTER TABLE ONLY public.pki_certificate
    ADD CONSTRAINT pki_certificate_pkey PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.pki_certificate
    ADD CONSTRAINT pki_certificate_tenant_id_ca_id_serial_key UNIQUE (tenant_id, ca_id, serial);
ALTER TABLE ONLY public.pki_crl
    ADD CONSTRAINT pki_crl_pkey PRIMARY KEY (tenant_id, ca_id);
ALTER TABLE ONLY public.pki_role
    ADD CONSTRAINT pki_role_pkey PRIMARY KEY (tenant_id, name);
ALTER TABLE ONLY public.policy_binding
    ADD CONSTRAINT policy_binding_pkey PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.policy_binding
    ADD CONSTRAINT policy_binding_tenant_id_policy_id_identity_type_identity_i_key UNIQUE (tenant_id, policy_id, identity_type, identity_id);
ALTER TABLE ONLY public.policy
    ADD CONSTRAINT policy_pkey PRIMARY KEY (tenant_id, id);
ALTER TABLE ONLY public.policy
    ADD CONSTRAINT policy_tenant_id_name_key_key UNIQUE (tenant_id, name_key);
ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_pkey PRIMARY KEY (tenant_id, path);
ALTER TABLE ONLY public.secret_tag
    ADD CONSTRAINT secret_tag_pkey PRIMARY KEY (tenant_id, secret_id, tag);
ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_tenant_id_id_key UNIQUE (tenant_id, id);
ALTER TABLE ONLY public.secret_version
    ADD CONSTRAINT secret_version_pkey PRIMARY KEY (tenant_id, secret_id, version);
ALTER TABLE ONLY public.tenant_key
    ADD CONSTRAINT tenant_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tenant_key
    ADD CONSTRAINT tenant_key_tenant_id_version_key UNIQUE (tenant_id, version);
ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);
CREATE INDEX audit_log_action ON public.audit_log USING btree (tenant_id, action, "timestamp");
CREATE INDEX audit_log_identity ON public.audit_log USING btree (tenant_id, identity_id, "timestamp");
CREATE INDEX audit_log_path ON public.audit_log USING btree (tenant_id, secret_path, "timestamp");
CREATE INDEX audit_log_request ON public.audit_log USING btree (tenant_id, request_id);
CREATE INDEX event_outbox_created ON public.event_outbox USING btree (created_at);
CREATE UNIQUE INDEX pki_ca_id ON public.pki_ca USING btree (id);
CREATE INDEX pki_certificate_expiry ON public.pki_certificate USING btree (tenant_id, not_after);
CREATE INDEX pki_certificate_revoked ON public.pki_certificate USING btree (tenant_id, ca_id) WHERE (revoked_at IS NOT NULL);
CREATE INDEX pki_certificate_serial ON public.pki_certificate USING btree (tenant_id, serial);
CREATE UNIQUE INDEX pki_crl_ca ON public.pki_crl USING btree (ca_id);
CREATE INDEX pki_crl_due ON public.pki_crl USING btree (due_at);
CREATE INDEX secret_deleted ON public.secret USING btree (deleted_at) WHERE (deleted_at IS NOT NULL);
CREATE INDEX secret_tag_tag ON public.secret_tag USING btree (tenant_id, tag, secret_id);
ALTER TABLE ONLY public.pki_ca
    ADD CONSTRAINT pki_ca_key_id_fkey FOREIGN KEY (key_id) REFERENCES public.tenant_key(id);
ALTER TABLE ONLY public.pki_ca
    ADD CONSTRAINT pki_ca_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
ALTER TABLE ONLY public.pki_ca
    ADD CONSTRAINT pki_ca_tenant_id_parent_ca_id_fkey FOREIGN KEY (tenant_id, parent_ca_id) REFERENCES public.pki_ca(tenant_id, id);
ALTER TABLE ONLY public.pki_certificate
    ADD CONSTRAINT pki_certificate_key_id_fkey FOREIGN KEY (key_id) REFERENCES public.tenant_key(id);
ALTER TABLE ONLY public.pki_certificate
    ADD CONSTRAINT pki_certificate_tenant_id_ca_id_fkey FOREIGN KEY (tenant_id, ca_id) REFERENCES public.pki_ca(tenant_id, id);
ALTER TABLE ONLY public.pki_certificate
    ADD CONSTRAINT pki_certificate_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
ALTER TABLE ONLY public.pki_crl
    ADD CONSTRAINT pki_crl_tenant_id_ca_id_fkey FOREIGN KEY (tenant_id, ca_id) REFERENCES public.pki_ca(tenant_id, id);
ALTER TABLE ONLY public.pki_role
    ADD CONSTRAINT pki_role_tenant_id_ca_id_fkey FOREIGN KEY (tenant_id, ca_id) REFERENCES public.pki_ca(tenant_id, id);
ALTER TABLE ONLY public.pki_role
    ADD CONSTRAINT pki_role_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
ALTER TABLE ONLY public.policy_binding
    ADD CONSTRAINT policy_binding_tenant_id_policy_id_fkey FOREIGN KEY (tenant_id, policy_id) REFERENCES public.policy(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.policy
    ADD CONSTRAINT policy_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
ALTER TABLE ONLY public.secret_tag
    ADD CONSTRAINT secret_tag_tenant_id_secret_id_fkey FOREIGN KEY (tenant_id, secret_id) REFERENCES public.secret(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.secret
    ADD CONSTRAINT secret_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
ALTER TABLE ONLY public.secret_version
    ADD CONSTRAINT secret_version_key_id_fkey FOREIGN KEY (key_id) REFERENCES public.tenant_key(id);
ALTER TABLE ONLY public.secret_version
    ADD CONSTRAINT secret_version_tenant_id_secret_id_fkey FOREIGN KEY (tenant_id, secret_id) REFERENCES public.secret(tenant_id, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tenant_key
    ADD CONSTRAINT tenant_key_partner_key_id_fkey FOREIGN KEY (partner_key_id) REFERENCES public.partner_key(id);
ALTER TABLE ONLY public.tenant_key
    ADD CONSTRAINT tenant_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(tenant_id);
CREATE TABLE public.scaivault_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
INSERT INTO public.scaivault_migrations VALUES (1, 'vault', '2026-11-22 06:34:20.738151+00', true, '\x86f8fc102a0f02729a7984ca984db8abcbe9b28cbd099ac3f0b656178546ebb53782bfcf4c0ba679385afc2b6bb52d28', 19589799);
ALTER TABLE ONLY public.scaivault_migrations
    ADD CONSTRAINT scaivault_migrations_pkey PRIMARY KEY (version);
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczadav7zeccmt68bmc1f', '2026-11-22 06:34:20.877672+00', 'write', 'user', 'user:admin@dev.example', 'tnt_dev', 'secret', NULL, 'app/db', '127.0.0.1', 'curl/7.88.1', true, NULL, 9, 'req_c18devmv9rw0w41sfys55se21b', '{"version": 1, "granted_by": "role:tenant_admin"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczb2demj8v17npf4bf08', '2026-11-22 06:34:20.89871+00', 'write', 'user', 'user:admin@dev.example', 'tnt_dev', 'secret', NULL, 'app/db', '127.0.0.1', 'curl/7.88.1', true, NULL, 3, 'req_6a2zxc4ymarqrnzr90a5xw61x9', '{"version": 2, "granted_by": "role:tenant_admin"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczc48vfd5kjynnv1a0pa', '2026-11-22 06:34:20.932851+00', 'pki_ca_create', 'user', 'user:admin@dev.example', 'tnt_dev', 'pki_ca', 'ca_root_01m80zczbra3kc8s5d437t5mmp', NULL, '127.0.0.1', 'curl/7.88.1', true, NULL, 13, 'req_vpp8p0vhcwfvzecx0cva709rh9', '{"name": "mesh", "ca_type": "root"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczckapmq4n64dj6f2gfe', '2026-11-22 06:34:20.94736+00', 'pki_role_create', 'user', 'user:admin@dev.example', 'tnt_dev', 'pki_role', 'svc', NULL, '127.0.0.1', 'curl/7.88.1', true, NULL, 2, 'req_pwfdqkp4m7dxv2pdafshg5gc6x', '{"ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczd34y3531rgwk1p01s7', '2026-11-22 06:34:20.963714+00', 'pki_issue', 'user', 'user:admin@dev.example', 'tnt_dev', 'pki_role', 'cert_01m80zczd2h7c23sdq8pjrj30j', 'pki/issue/svc', '127.0.0.1', 'curl/7.88.1', true, NULL, 4, 'req_xrrqyyygjmn70s03m1p9td9fx8', '{"ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp", "granted_by": "role:tenant_admin", "common_name": "a.svc.test", "serial_number": "63:07:BC:6D:3C:9B:59:25:AB:50:CF:93:8A:47:FF:71"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczds1jz6p1e6yegas9sg', '2026-11-22 06:34:20.985884+00', 'pki_revoke', 'user', 'user:admin@dev.example', 'tnt_dev', 'pki_certificate', 'cert_01m80zczd2h7c23sdq8pjrj30j', NULL, '127.0.0.1', 'curl/7.88.1', true, NULL, 1, 'req_s6c02rf74n8cdqsewqmebv6hm3', '{"ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp", "reason": "superseded", "serial_number": "63:07:BC:6D:3C:9B:59:25:AB:50:CF:93:8A:47:FF:71"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zcze8g1yhqmx45qhbe2cm', '2026-11-22 06:34:21.000298+00', 'policy_create', 'user', 'user:admin@dev.example', 'tnt_dev', 'policy', 'pol_01m80zcze51mq6xpbe4jchymkg', NULL, '127.0.0.1', 'curl/7.88.1', true, NULL, 3, 'req_5jvrce71vyg5x97ephnbkyfc8r', '{"name": "readers"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczf37mectvbr492v7k9g', '2026-11-22 06:34:21.027951+00', 'policy_bind', 'user', 'user:admin@dev.example', 'tnt_dev', 'policy', 'pol_01m80zcze51mq6xpbe4jchymkg', NULL, '127.0.0.1', 'curl/7.88.1', true, NULL, 2, 'req_dcfsa55xd0bz769wpm5jbw9fey', '{"created": true, "binding_id": "bind_01m80zczf19p05fvx66grwtgxf", "bound_identity_id": "user:reader", "bound_identity_type": "user"}');
INSERT INTO public.audit_log VALUES ('tnt_dev', 'log_01m80zczfjc222r2gqezvhyq1c', '2026-11-22 06:34:21.042146+00', 'read', 'user', 'user:admin@dev.example', 'tnt_dev', 'secret', NULL, 'app/db', '127.0.0.1', 'curl/7.88.1', true, NULL, 1, 'req_rj2ah4548f5st3nk1jat8acyda', '{"version": 2, "granted_by": "role:tenant_admin"}');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zczaddzx20w7z4a1t29sg', 'secret.created', 'app/db', 'user:admin@dev.example', 'req_c18devmv9rw0w41sfys55se21b', '{"tags": ["db"], "version": 1, "created_by": "user:admin@dev.example", "expires_at": null, "secret_type": "json"}', '2026-11-22 06:34:20.877638+00');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zczb2vqwewjzdg5mdr2vr', 'secret.updated', 'app/db', 'user:admin@dev.example', 'req_6a2zxc4ymarqrnzr90a5xw61x9', '{"updated_by": "user:admin@dev.example", "is_rotation": false, "new_version": 2, "old_version": 1}', '2026-11-22 06:34:20.898684+00');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zczd3y3qef6768dgpnzka', 'certificate.issued', 'pki/issue/svc', 'user:admin@dev.example', 'req_xrrqyyygjmn70s03m1p9td9fx8', '{"ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp", "not_after": "2026-11-29T06:34:19Z", "common_name": "a.svc.test", "serial_number": "63:07:BC:6D:3C:9B:59:25:AB:50:CF:93:8A:47:FF:71", "certificate_id": "cert_01m80zczd2h7c23sdq8pjrj30j"}', '2026-11-22 06:34:20.963673+00');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zczdsvne05k566eqftksc', 'certificate.revoked', NULL, 'user:admin@dev.example', 'req_s6c02rf74n8cdqsewqmebv6hm3', '{"ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp", "reason": "superseded", "serial_number": "63:07:BC:6D:3C:9B:59:25:AB:50:CF:93:8A:47:FF:71", "certificate_id": "cert_01m80zczd2h7c23sdq8pjrj30j"}', '2026-11-22 06:34:20.985866+00');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zcze8z66ta7g50cben8db', 'policy.created', NULL, 'user:admin@dev.example', 'req_5jvrce71vyg5x97ephnbkyfc8r', '{"name": "readers", "policy_id": "pol_01m80zcze51mq6xpbe4jchymkg", "changed_by": "user:admin@dev.example"}', '2026-11-22 06:34:21.000281+00');
INSERT INTO public.event_outbox VALUES ('tnt_dev', 'evt_01m80zczf3jrk823eq1frssp61', 'policy.binding.created', NULL, 'user:admin@dev.example', 'req_dcfsa55xd0bz769wpm5jbw9fey', '{"policy_id": "pol_01m80zcze51mq6xpbe4jchymkg", "binding_id": "bind_01m80zczf19p05fvx66grwtgxf", "identity_id": "user:reader", "identity_type": "user"}', '2026-11-22 06:34:21.027717+00');
INSERT INTO public.partner_key VALUES ('pk_01m80zcza8a2s41djsqn5z1aqe', 'ptn_dev', 1, '\x01000000056c6f63616c0000001037323238666631643133623236393436000000000000000b4145532d3235362d47434d0000003c2bdd48a35eaf84e675d72fef47ab83f12d20ae610bd42ecc377e214ad1f7364fe60fdbea86936fa4db62da78c37ee47a3eada96ee4774a6c9ce27ffc', '2026-11-22 06:34:20.872731+00');
INSERT INTO public.tenant VALUES ('tnt_dev', 'ptn_dev', true, 2, '2026-11-22 06:34:20.870115+00');
INSERT INTO public.tenant_key VALUES ('tk_01m80zcza93zj5pd041qb3jp58', 'tnt_dev', 1, 'pk_01m80zcza8a2s41djsqn5z1aqe', '\x010ede03ebd65932a2a2daccc20a4f550ff3600eee5a96e79b185139dfb3ed1671b47bdb415150b72305502a7a466bcd4aec8fe295f9790877aa37ccd2', '2026-11-22 06:34:20.87358+00');
INSERT INTO public.pki_ca VALUES ('tnt_dev', 'ca_root_01m80zczbra3kc8s5d437t5mmp', 'mesh', 'mesh', 'Mesh Root', 'root', NULL, 'ec-p256', '\x308201693082010ea00302010202105d04e77a9e4322cc2904b34fd7d92209300a06082a8648ce3d04030230143112301006035504030c094d65736820526f6f74301e170d3236313132323036323932305a170d3336313131393036333431395a30143112301006035504030c094d65736820526f6f743059301306072a8648ce3d020106082a8648ce3d030107034200040565ca8ed098ab441fb7e3c73b69bef3daabde6a26f9371f8e6a651d0fc36963b6f21e5146ae4dfb1c9984a853551c44b77ec9c38a058d94363827fd671da2c0a3423040300f0603551d130101ff040530030101ff300e0603551d0f0101ff040403020186301d0603551d0e04160414f265b858bece45b779fb5763c8e70290431470cc300a06082a8648ce3d0403020349003046022100cb6d0309b7a77e879b64ab0f570a70bf2f7fdf223f7cb19de6e01c19cff1a3570221009260a06d69f8cc16d638a16c0e0653e1c74012596f3d0b586d796751684f4860', '\x5d04e77a9e4322cc2904b34fd7d92209', '\x01fc81d2c945de62db1fd48bbab98330889219e9f8fab66204b52a1907b50fdcf908547ed9206cac4cd728a32d254fde6d8e72a3278c87114a772119951e14c11a220ba349a6bdd391b1d4c742848520f7ed96e314f03ed893d337058d517bb658e376591a6aa9eec1ad6155da1500cb46dddf94e54707c71b23a444159eaaf1c1074b578b6a411fec35b1c77c5725dabfb63a8bad40e9605c93ea877c724567f76b047df45d12', '\x014469f7b80854d651303badc010383c6dbede73623d34c52ab792efda0856f78c7c7b2f15f25b3c4958fa8d71d2c6d1bd7a54b3624dffc2970151723b', 'tk_01m80zcza93zj5pd041qb3jp58', '2026-11-22 06:29:20+00', '2036-11-19 06:34:19+00', true, '2026-11-22 06:34:20.919641+00');
INSERT INTO public.pki_certificate VALUES ('tnt_dev', 'cert_01m80zczbrr2cd9hc9agjgv3ds', 'ca_root_01m80zczbra3kc8s5d437t5mmp', '\x5d04e77a9e4322cc2904b34fd7d92209', NULL, 'Mesh Root', '[]', '[]', '\x308201693082010ea00302010202105d04e77a9e4322cc2904b34fd7d92209300a06082a8648ce3d04030230143112301006035504030c094d65736820526f6f74301e170d3236313132323036323932305a170d3336313131393036333431395a30143112301006035504030c094d65736820526f6f743059301306072a8648ce3d020106082a8648ce3d030107034200040565ca8ed098ab441fb7e3c73b69bef3daabde6a26f9371f8e6a651d0fc36963b6f21e5146ae4dfb1c9984a853551c44b77ec9c38a058d94363827fd671da2c0a3423040300f0603551d130101ff040530030101ff300e0603551d0f0101ff040403020186301d0603551d0e04160414f265b858bece45b779fb5763c8e70290431470cc300a06082a8648ce3d0403020349003046022100cb6d0309b7a77e879b64ab0f570a70bf2f7fdf223f7cb19de6e01c19cff1a3570221009260a06d69f8cc16d638a16c0e0653e1c74012596f3d0b586d796751684f4860', '\x04c4df63c79ff4c60cf98e57c371286abefc0e6f0f7d363a0cc07c167732b663', '2026-11-22 06:29:20+00', '2036-11-19 06:34:19+00', NULL, NULL, 'ca', 'user:admin@dev.example', '2026-11-22 06:34:20.919641+00', NULL, NULL, NULL);
INSERT INTO public.pki_certificate VALUES ('tnt_dev', 'cert_01m80zczd2h7c23sdq8pjrj30j', 'ca_root_01m80zczbra3kc8s5d437t5mmp', '\x6307bc6d3c9b5925ab50cf938a47ff71', 'svc', 'a.svc.test', '["a.svc.test"]', '[]', '\x3082027f30820224a00302010202106307bc6d3c9b5925ab50cf938a47ff71300a06082a8648ce3d04030230143112301006035504030c094d65736820526f6f74301e170d3236313132323036323932305a170d3236313132393036333431395a30153113301106035504030c0a612e7376632e746573743059301306072a8648ce3d020106082a8648ce3d03010703420004154f0dc3868a888d6774b877b52d9205d34189c7eb3faae89218da7f1c110f18a42315799fcdef368e013f98aef34ec93f329d9b7126b8c428d98086b1b2d28da382015530820151300c0603551d130101ff04023000300e0603551d0f0101ff040403020780301d0603551d250416301406082b0601050507030106082b0601050507030230150603551d11040e300c820a612e7376632e74657374301d0603551d0e04160414047cdef1ccbbc67bc6752ef8d6f732243d541755301f0603551d23041830168014f265b858bece45b779fb5763c8e70290431470cc30580603551d1f0451304f304da04ba0498647687474703a2f2f3132372e302e302e313a34313234372f76312f706b692f63612f63615f726f6f745f30316d38307a637a627261336b633873356434333774356d6d702f63726c306106082b0601050507010104553053305106082b060105050730018645687474703a2f2f3132372e302e302e313a34313234372f76312f706b692f6f6373702f63615f726f6f745f30316d38307a637a627261336b633873356434333774356d6d70300a06082a8648ce3d0403020349003046022100c0ad9272ecef36706f0fd03271fe7e36c744026ff2b9c8fc0852a0a0c87dfdeb022100bbec7a3d1d452769ce98bdc68fb6f3bce8979e744d8a90aecb02f301287acd0d', '\x2ead83a3eaf5b2bd6d97a1d48b6188655b1b368fdf06780c5cc20572598e48cf', '2026-11-22 06:29:20+00', '2026-11-29 06:34:19+00', '2026-11-22 06:34:20.984177+00', 'superseded', 'internal', 'user:admin@dev.example', '2026-11-22 06:34:20.959441+00', '\x0101caa2037e7c71df4550a03f70cd602780bfb86f3dfc973864a5e1d0a8d17bb4b153f6e61fc1422d6c81f9d3cb39a7e274b14547c37d037ddd7314d1907c2192fe53bd67ac9e4138a6fbeec8b8f812533a9b80a3fc3705d50ce43964cb908a31ea20281047191ea7bc3875bfc078db2e9eadb9aeab86d1177df1a49414d29d1ea6f04d921b78a5972738b39d9de864439e5305b7d900e78a7c77f99eaae22230579e77446d69', '\x0176fd74d6aaf7daa58c6acc2712a2f7002f6e44202950206267ca0d5e84dbc511eea883d2d5d3ec974528406876ed95924646f2f9eedcf445ca5678ab', 'tk_01m80zcza93zj5pd041qb3jp58');
INSERT INTO public.pki_crl VALUES ('tnt_dev', 'ca_root_01m80zczbra3kc8s5d437t5mmp', 1, '\x3081cc3074020101300a06082a8648ce3d04030230143112301006035504030c094d65736820526f6f74170d3236313132323036333432305a170d3236313132353036333432305aa02f302d301f0603551d23041830168014f265b858bece45b779fb5763c8e70290431470cc300a0603551d140403020101300a06082a8648ce3d0403020348003045022059a941c4585911fae9c4834912ab52dbf85c9a2e2ba6dc76d9a4b46813dc05c7022100e054fcf1af57cf7c7e41819bcac28f4fafe2dc6ed4ceccdd387b4d042c87dd11', '2026-11-22 06:34:20.919641+00', '2026-11-25 06:34:20.919641+00', '2026-11-22 07:34:20.919641+00', NULL);
INSERT INTO public.pki_role VALUES ('tnt_dev', 'svc', 'ca_root_01m80zczbra3kc8s5d437t5mmp', '{"name": "svc", "ca_id": "ca_root_01m80zczbra3kc8s5d437t5mmp", "max_ttl": "720h", "key_bits": 256, "key_type": "ec", "require_cn": true, "client_flag": true, "default_ttl": "168h", "server_flag": true, "allow_ip_sans": false, "allowed_domains": ["*.svc.test"], "allow_subdomains": false, "store_private_keys": true}', '2026-11-22 06:34:20.944618+00', '2026-11-22 06:34:20.944618+00');
INSERT INTO public.policy VALUES ('tnt_dev', 'pol_01m80zcze51mq6xpbe4jchymkg', 'readers', 'readers', '', '[{"conditions": {}, "permissions": ["read"], "path_pattern": "app/**"}]', 1, true, '2026-11-22 06:34:20.996803+00', '2026-11-22 06:34:20.996803+00');
INSERT INTO public.policy_binding VALUES ('tnt_dev', 'bind_01m80zczf19p05fvx66grwtgxf', 'pol_01m80zcze51mq6xpbe4jchymkg', 'user', 'user:reader', NULL, '2026-11-22 06:34:21.02507+00', 'user:admin@dev.example');
INSERT INTO public.secret VALUES ('tnt_dev', 'app/db', 'sec_01m80zczaawek8a6sg01ywjsmn', 'json', 2, 10, '{"tags": ["db"]}', '30d,7d,1d', '2026-11-22 06:34:20.868271+00', '2026-11-22 06:34:20.894777+00', NULL, NULL, '2026-11-22 06:34:21.040277+00');
INSERT INTO public.secret_tag VALUES ('tnt_dev', 'sec_01m80zczaawek8a6sg01ywjsmn', 'db');
INSERT INTO public.secret_version VALUES ('tnt_dev', 'sec_01m80zczaawek8a6sg01ywjsmn', 1, '\x01dfd1227b16274b251fd65e6582e7a45c4fc9514e4d4f82f5fd021e707edd5af6cd546dabf6e56d', '\x01d4fbb7cb2ab60af82241896e0618d6ecc67bc259e5e7f210e5acfdf4401aa09d219dc44b5002495a33e94b1478a6e0a8c325d4f4f20b3201c6e9df30', 'tk_01m80zcza93zj5pd041qb3jp58', '2026-11-22 06:34:20.868271+00', 'user:admin@dev.example');
INSERT INTO public.secret_version VALUES ('tnt_dev', 'sec_01m80zczaawek8a6sg01ywjsmn', 2, '\x018709e5924542e85a05c4b3b2ef86cecda47f882d80f6cf20b8c098b9c3c648b54f6f89e4db16d8', '\x01e5aeee08bdef9937c46d30b4c5301eeee0cc6507e245c3e8e3caff362daa28ad334e8faf0d352bd65b4ab6696cbfccdf328113874c8156a8bd812b9d', 'tk_01m80zcza93zj5pd041qb3jp58', '2026-11-22 06:34:20.894777+00', 'user:admin@dev.example');
