BEGIN TRANSACTION;
CREATE TABLE audit_log (
    tenant_id        TEXT NOT NULL,
    id               TEXT NOT NULL,
    timestamp        INTEGER NOT NULL,
    action           TEXT NOT NULL,
    identity_type    TEXT NOT NULL,
    identity_id      TEXT NOT NULL,
    acting_tenant_id TEXT NOT NULL,
    resource_type    TEXT,
    resource_id      TEXT,
    secret_path      TEXT,
    source_ip        TEXT,
    user_agent       TEXT,
    success          BOOLEAN NOT NULL,
    error_code       TEXT,
    duration_ms      INTEGER NOT NULL,
    request_id       TEXT NOT NULL,
    extra_data       TEXT NOT NULL,
    PRIMARY KEY (tenant_id, timestamp, id)
);
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczm1qv87sbkg54pg1mph',1795329261185372,'write','user','user:admin@dev.example','tnt_dev','secret',NULL,'app/db','127.0.0.1','curl/7.88.1',1,NULL,7,'req_1ge6kc2g9txxb7a9e71eat392c','{"granted_by":"role:tenant_admin","version":1}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczmfpmkyv91h2awcxavq',1795329261199732,'write','user','user:admin@dev.example','tnt_dev','secret',NULL,'app/db','127.0.0.1','curl/7.88.1',1,NULL,0,'req_rszqz5zz7z608420gbv4d4hdnx','{"granted_by":"role:tenant_admin","version":2}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zcznfkgytjw5xevbf4fg2',1795329261231054,'pki_ca_create','user','user:admin@dev.example','tnt_dev','pki_ca','ca_root_01m80zczn7exz9r2tjmmzewg52',NULL,'127.0.0.1','curl/7.88.1',1,NULL,7,'req_vaj010hktzd9ap9489yq3t2a1p','{"ca_type":"root","name":"mesh"}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zcznyej4jwcxywe2hk6ej',1795329261246855,'pki_role_create','user','user:admin@dev.example','tnt_dev','pki_role','svc',NULL,'127.0.0.1','curl/7.88.1',1,NULL,0,'req_3jxnq4wnxgrzaxyc16n9rhqnaj','{"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52"}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczptkb0fd25276708dtn',1795329261274371,'pki_issue','user','user:admin@dev.example','tnt_dev','pki_role','cert_01m80zczpqkj92b2r4zy4qe7w1','pki/issue/svc','127.0.0.1','curl/7.88.1',1,NULL,6,'req_pdvswatfjycfkfsr3r0vcbrdtm','{"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52","common_name":"a.svc.test","granted_by":"role:tenant_admin","serial_number":"5E:DB:0E:4F:FC:86:58:6B:F2:3B:F0:2E:73:D1:45:EB"}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczqjv60cbmb1apa1t0af',1795329261298599,'pki_revoke','user','user:admin@dev.example','tnt_dev','pki_certificate','cert_01m80zczpqkj92b2r4zy4qe7w1',NULL,'127.0.0.1','curl/7.88.1',1,NULL,0,'req_epa224400wyc3gd5nvqea9p1q5','{"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52","reason":"superseded","serial_number":"5E:DB:0E:4F:FC:86:58:6B:F2:3B:F0:2E:73:D1:45:EB"}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczrf6h0s3zhtymj0z574',1795329261327326,'policy_create','user','user:admin@dev.example','tnt_dev','policy','pol_01m80zczrepx44dzg4yg14ea9c',NULL,'127.0.0.1','curl/7.88.1',1,NULL,1,'req_my6dhy0j1fyps3rv4r4fsdw3br','{"name":"readers"}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczrw1kwemr4qfn1e273e',1795329261340789,'policy_bind','user','user:admin@dev.example','tnt_dev','policy','pol_01m80zczrepx44dzg4yg14ea9c',NULL,'127.0.0.1','curl/7.88.1',1,NULL,0,'req_d498q5zaq8cx81bawdvfkh8ddp','{"binding_id":"bind_01m80zczrv98q6zkd2s241c3dj","bound_identity_id":"user:reader","bound_identity_type":"user","created":true}');
INSERT INTO "audit_log" VALUES('tnt_dev','log_01m80zczsahpdg57djk52r08ar',1795329261354030,'read','user','user:admin@dev.example','tnt_dev','secret',NULL,'app/db','127.0.0.1','curl/7.88.1',1,NULL,1,'req_p3cwd8wevppfyww16a4h8vtg0n','{"granted_by":"role:tenant_admin","version":2}');
CREATE TABLE event_outbox (
    tenant_id   TEXT NOT NULL,
    id          TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    path        TEXT,
    identity_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    data        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczm1gecw66rmae518ykn','secret.created','app/db','user:admin@dev.example','req_1ge6kc2g9txxb7a9e71eat392c','{"created_by":"user:admin@dev.example","expires_at":null,"secret_type":"json","tags":["db"],"version":1}',1795329261185345);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczmfxf01fmrd8q93vp4k','secret.updated','app/db','user:admin@dev.example','req_rszqz5zz7z608420gbv4d4hdnx','{"is_rotation":false,"new_version":2,"old_version":1,"updated_by":"user:admin@dev.example"}',1795329261199721);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczptd7905x7fjk5n0fbe','certificate.issued','pki/issue/svc','user:admin@dev.example','req_pdvswatfjycfkfsr3r0vcbrdtm','{"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52","certificate_id":"cert_01m80zczpqkj92b2r4zy4qe7w1","common_name":"a.svc.test","not_after":"2026-11-29T06:34:20Z","serial_number":"5E:DB:0E:4F:FC:86:58:6B:F2:3B:F0:2E:73:D1:45:EB"}',1795329261274310);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczqjzp0grrnd5ggkddzz','certificate.revoked',NULL,'user:admin@dev.example','req_epa224400wyc3gd5nvqea9p1q5','{"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52","certificate_id":"cert_01m80zczpqkj92b2r4zy4qe7w1","reason":"superseded","serial_number":"5E:DB:0E:4F:FC:86:58:6B:F2:3B:F0:2E:73:D1:45:EB"}',1795329261298581);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczrf7wdaj3c5pqmpmdy7','policy.created',NULL,'user:admin@dev.example','req_my6dhy0j1fyps3rv4r4fsdw3br','{"changed_by":"user:admin@dev.example","name":"readers","policy_id":"pol_01m80zczrepx44dzg4yg14ea9c"}',1795329261327311);
INSERT INTO "event_outbox" VALUES('tnt_dev','evt_01m80zczrw0q8vzt4yebcjz5zm','policy.binding.created',NULL,'user:admin@dev.example','req_d498q5zaq8cx81bawdvfkh8ddp','{"binding_id":"bind_01m80zczrv98q6zkd2s241c3dj","identity_id":"user:reader","identity_type":"user","policy_id":"pol_01m80zczrepx44dzg4yg14ea9c"}',1795329261340736);
CREATE TABLE partner_key (
    id         TEXT PRIMARY KEY,
    partner_id TEXT NOT NULL,
    version    INTEGER NOT NULL,
    wrapped    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (partner_id, version)
);
INSERT INTO "partner_key" VALUES('pk_01m80zczkycxw25tm7pp1h4613','ptn_dev',1,X'01000000056C6F63616C0000001037323238666631643133623236393436000000000000000B4145532D3235362D47434D0000003C31AFF44584AF1F98D05F5D8F6F63DDD4E12876A63F15DEEB65F116BE97765E434046C5B143AEA1E703844F1D35C976B3BCAAD4B116EC6719DCCAC862',1795329261182921);
CREATE TABLE pki_ca (
    tenant_id       TEXT NOT NULL REFERENCES tenant (tenant_id),
    id              TEXT NOT NULL,
    name            TEXT NOT NULL,
    name_key        TEXT NOT NULL,
    common_name     TEXT NOT NULL,
    ca_type         TEXT NOT NULL,
    parent_ca_id    TEXT,
    key_spec        TEXT NOT NULL,
    certificate     BLOB NOT NULL,
    serial          BLOB NOT NULL,
    key_ciphertext  BLOB NOT NULL,
    key_wrapped_key BLOB NOT NULL,
    key_id          TEXT NOT NULL REFERENCES tenant_key (id),
    not_before      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    is_active       BOOLEAN NOT NULL,
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key),
    FOREIGN KEY (tenant_id, parent_ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO "pki_ca" VALUES('tnt_dev','ca_root_01m80zczn7exz9r2tjmmzewg52','mesh','mesh','Mesh Root','root',NULL,'ec-p256',X'308201673082010EA003020102021067CD7395EBE5DD8BCA35228263B70096300A06082A8648CE3D04030230143112301006035504030C094D65736820526F6F74301E170D3236313132323036323932315A170D3336313131393036333432305A30143112301006035504030C094D65736820526F6F743059301306072A8648CE3D020106082A8648CE3D03010703420004E0F499B6736B308D51EA1E8333E01A8557B242AB932DB5E8E7B3ADCB6A2DBCA8F9069FA7FC58BFE92075AD590CAEEA89485071676E323B1F4987F34A78F56A82A3423040300F0603551D130101FF040530030101FF300E0603551D0F0101FF040403020186301D0603551D0E04160414C7946148DE3DD821028BBBDB07B42B1F3CBEF991300A06082A8648CE3D04030203470030440220110AFC6E429ADC2BD3F1D1EE6D4C5E437CD81DFF674CE6D9B5B9001F67D7E03402204F799F6F4C4C75E25F81F61CB32444C2EBA19CAE60F0921A63B507AE2EC02084',X'67CD7395EBE5DD8BCA35228263B70096',X'01C8D41EDB53934285C3EB244C44B846A6BD1B04CE32ECDEF56C1D6F4E45E2697057EF90C873E73E1EE0F63315C4050C14AB0C7EDB9B930B621B28312372C481675DE6036C2AB50856A8BA4CA956A176381E0D07912E0ABBD5AD4A4C0C1C2568DC862749FDCE72AA1E4426087BC79FDBCED4FBE3D601D2290CAEEADA326F7547379FDEE1DF57F88A2CADE1F2C6CA053B7CD403FA1D6CB7E24D6C31B034F574FA977DD542D7FE0A',X'01AEA1C69DAB8B3E628CF5F65280C4C74BECB905A3346C8AF47A0916189A41AE9D3F8D72FB5BA93088DBE1DBF45B7E5FD6A3DF7B81ACA49092499FC035','tk_01m80zczkzhxndrxe7e23avtgs',1795328961000000,2110689260000000,1,1795329261222895);
CREATE TABLE pki_certificate (
    tenant_id          TEXT NOT NULL REFERENCES tenant (tenant_id),
    id                 TEXT NOT NULL,
    ca_id              TEXT NOT NULL,
    serial             BLOB NOT NULL,
    role               TEXT,
    common_name        TEXT,
    alt_names          TEXT NOT NULL,
    ip_sans            TEXT NOT NULL,
    certificate        BLOB NOT NULL,
    fingerprint_sha256 BLOB NOT NULL,
    not_before         INTEGER NOT NULL,
    not_after          INTEGER NOT NULL,
    revoked_at         INTEGER,
    revocation_reason  TEXT,
    source             TEXT NOT NULL,
    issued_to          TEXT NOT NULL,
    created_at         INTEGER NOT NULL,
    key_ciphertext     BLOB,
    key_wrapped_key    BLOB,
    key_id             TEXT REFERENCES tenant_key (id),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, ca_id, serial),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO "pki_certificate" VALUES('tnt_dev','cert_01m80zczn7h7eagpbpdnpwaaz0','ca_root_01m80zczn7exz9r2tjmmzewg52',X'67CD7395EBE5DD8BCA35228263B70096',NULL,'Mesh Root','[]','[]',X'308201673082010EA003020102021067CD7395EBE5DD8BCA35228263B70096300A06082A8648CE3D04030230143112301006035504030C094D65736820526F6F74301E170D3236313132323036323932315A170D3336313131393036333432305A30143112301006035504030C094D65736820526F6F743059301306072A8648CE3D020106082A8648CE3D03010703420004E0F499B6736B308D51EA1E8333E01A8557B242AB932DB5E8E7B3ADCB6A2DBCA8F9069FA7FC58BFE92075AD590CAEEA89485071676E323B1F4987F34A78F56A82A3423040300F0603551D130101FF040530030101FF300E0603551D0F0101FF040403020186301D0603551D0E04160414C7946148DE3DD821028BBBDB07B42B1F3CBEF991300A06082A8648CE3D04030203470030440220110AFC6E429ADC2BD3F1D1EE6D4C5E437CD81DFF674CE6D9B5B9001F67D7E03402204F799F6F4C4C75E25F81F61CB32444C2EBA19CAE60F0921A63B507AE2EC02084',X'D968AA9F88A788396CA3F795B78FA652FE2FF0B4116734C7B7DA0B6CE5CFD1C2',1795328961000000,2110689260000000,NULL,NULL,'ca','user:admin@dev.example',1795329261222895,NULL,NULL,NULL);
INSERT INTO "pki_certificate" VALUES('tnt_dev','cert_01m80zczpqkj92b2r4zy4qe7w1','ca_root_01m80zczn7exz9r2tjmmzewg52',X'5EDB0E4FFC86586BF23BF02E73D145EB','svc','a.svc.test','["a.svc.test"]','[]',X'3082027F30820224A00302010202105EDB0E4FFC86586BF23BF02E73D145EB300A06082A8648CE3D04030230143112301006035504030C094D65736820526F6F74301E170D3236313132323036323932315A170D3236313132393036333432305A30153113301106035504030C0A612E7376632E746573743059301306072A8648CE3D020106082A8648CE3D03010703420004E36E5434D2A375869B8C919046B36EEED588B34F6C25CCDC64469EDB9F8EE7D2ED731961CB6B6E01AA39A0F12CD88FA8EF7D123656DEC04D336CA1F552106FBCA382015530820151300C0603551D130101FF04023000300E0603551D0F0101FF040403020780301D0603551D250416301406082B0601050507030106082B0601050507030230150603551D11040E300C820A612E7376632E74657374301D0603551D0E04160414ED3A10EC0533DC68088F9072763210650DDE190B301F0603551D23041830168014C7946148DE3DD821028BBBDB07B42B1F3CBEF99130580603551D1F0451304F304DA04BA0498647687474703A2F2F3132372E302E302E313A34303633312F76312F706B692F63612F63615F726F6F745F30316D38307A637A6E3765787A397232746A6D6D7A65776735322F63726C306106082B0601050507010104553053305106082B060105050730018645687474703A2F2F3132372E302E302E313A34303633312F76312F706B692F6F6373702F63615F726F6F745F30316D38307A637A6E3765787A397232746A6D6D7A6577673532300A06082A8648CE3D0403020349003046022100EFB6C4E00FE0CEA87CE4B36FFD4B6E74B5CB88E5C9D7132AA15E777D192CC241022100E9948188A1B187F883C3FE07CF336AEA03B258A8744EFE4DD3846FD5B1C22A05',X'12758B3C14FD8785EA0FDFD559B5B871BEB35761FB47BEB87CA6EA9DC706F25D',1795328961000000,1795934060000000,1795329261297536,'superseded','internal','user:admin@dev.example',1795329261268223,X'01E756E5523D3B0DD17E27CD07B0AFD68B5E30256A47EF85557DE07887F877B72E654EEB5FB67DEDFB62C3E64114625D8379E52EA31FE60C4E663A5E442853253AB6A92945CEC27D5A0532B7689B0FD5C3957C13FA32B4406C70C30813B6A2F0CA1A2A9513590F00804C313CDAA618DC6E46B08B9A0B67BCCACE3A90BA2394F21C5BF2DF13382C5643A00A71611299AAC8928FB035B0FB7336A864EAB8910F23E4FAE632BBFE8F',X'01A96F35D94346C67BA4BF09A1F58B8F40E3A486F2BE581C4D764CB53332F499E9F1434B19A323D00DDE0F514894F2A51F13DBAE8539D29E75E9300BE4','tk_01m80zczkzhxndrxe7e23avtgs');
CREATE TABLE pki_crl (
    tenant_id     TEXT NOT NULL,
    ca_id         TEXT NOT NULL,
    number        INTEGER NOT NULL,
    crl           BLOB NOT NULL,
    this_update   INTEGER NOT NULL,
    next_update   INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    claimed_until INTEGER,
    PRIMARY KEY (tenant_id, ca_id),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO "pki_crl" VALUES('tnt_dev','ca_root_01m80zczn7exz9r2tjmmzewg52',1,X'3081CC3074020101300A06082A8648CE3D04030230143112301006035504030C094D65736820526F6F74170D3236313132323036333432315A170D3236313132353036333432315AA02F302D301F0603551D23041830168014C7946148DE3DD821028BBBDB07B42B1F3CBEF991300A0603551D140403020101300A06082A8648CE3D0403020348003045022100AFA8AE672B740B419A8A35A2133F290E5E3571EE650A6D9460AB76EAA7489C0002203B76643FE9A41CC042E45CFE6A398AFE47401DFAC97C586D6C12A9FF2000F1C5',1795329261222895,1795588461222895,1795332861222895,NULL);
CREATE TABLE pki_role (
    tenant_id  TEXT NOT NULL REFERENCES tenant (tenant_id),
    name       TEXT NOT NULL,
    ca_id      TEXT NOT NULL,
    config     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name),
    FOREIGN KEY (tenant_id, ca_id) REFERENCES pki_ca (tenant_id, id)
);
INSERT INTO "pki_role" VALUES('tnt_dev','svc','ca_root_01m80zczn7exz9r2tjmmzewg52','{"allow_ip_sans":false,"allow_subdomains":false,"allowed_domains":["*.svc.test"],"ca_id":"ca_root_01m80zczn7exz9r2tjmmzewg52","client_flag":true,"default_ttl":"168h","key_bits":256,"key_type":"ec","max_ttl":"720h","name":"svc","require_cn":true,"server_flag":true,"store_private_keys":true}',1795329261245659,1795329261245659);
CREATE TABLE policy (
    tenant_id   TEXT NOT NULL REFERENCES tenant (tenant_id),
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL,
    description TEXT NOT NULL,
    rules       TEXT NOT NULL,
    rule_count  INTEGER NOT NULL,
    is_active   BOOLEAN NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name_key)
);
INSERT INTO "policy" VALUES('tnt_dev','pol_01m80zczrepx44dzg4yg14ea9c','readers','readers','','[{"conditions":{},"path_pattern":"app/**","permissions":["read"]}]',1,1,1795329261325677,1795329261325677);
CREATE TABLE policy_binding (
    tenant_id     TEXT NOT NULL,
    id            TEXT NOT NULL,
    policy_id     TEXT NOT NULL,
    identity_type TEXT NOT NULL,
    identity_id   TEXT NOT NULL,
    expires_at    INTEGER,
    created_at    INTEGER NOT NULL,
    created_by    TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, policy_id, identity_type, identity_id),
    FOREIGN KEY (tenant_id, policy_id) REFERENCES policy (tenant_id, id) ON DELETE CASCADE
);
INSERT INTO "policy_binding" VALUES('tnt_dev','bind_01m80zczrv98q6zkd2s241c3dj','pol_01m80zczrepx44dzg4yg14ea9c','user','user:reader',NULL,1795329261339718,'user:admin@dev.example');
CREATE TABLE scaivault_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "scaivault_migrations" VALUES(1,'vault','2026-11-22 06:34:21',1,X'C957E2AEB28061C38F7A85C123D71989653DE1795EBAFE23E84635A2B48D5DFBF503BB09D73DF8CBCE6326A30F0D5A16',3040658);
CREATE TABLE secret (
    tenant_id        TEXT NOT NULL REFERENCES tenant (tenant_id),
    path             TEXT NOT NULL,
    id               TEXT NOT NULL,
    secret_type      TEXT NOT NULL,
    current_version  INTEGER NOT NULL,
    max_versions     INTEGER NOT NULL,
    metadata         TEXT NOT NULL,
    notify_before    TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    expires_at       INTEGER,
    deleted_at       INTEGER,
    last_accessed_at INTEGER,
    PRIMARY KEY (tenant_id, path),
    UNIQUE (tenant_id, id)
);
INSERT INTO "secret" VALUES('tnt_dev','app/db','sec_01m80zczm0vh6yg7p0zdp4avm7','json',2,10,'{"tags":["db"]}','30d,7d,1d',1795329261176930,1795329261198595,NULL,NULL,1795329261352788);
CREATE TABLE secret_tag (
    tenant_id TEXT NOT NULL,
    secret_id TEXT NOT NULL,
    tag       TEXT NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, tag),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES secret (tenant_id, id) ON DELETE CASCADE
);
INSERT INTO "secret_tag" VALUES('tnt_dev','sec_01m80zczm0vh6yg7p0zdp4avm7','db');
CREATE TABLE secret_version (
    tenant_id   TEXT NOT NULL,
    secret_id   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    ciphertext  BLOB NOT NULL,
    wrapped_key BLOB NOT NULL,
    key_id      TEXT NOT NULL REFERENCES tenant_key (id),
    created_at  INTEGER NOT NULL,
    created_by  TEXT NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, version),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES secret (tenant_id, id) ON DELETE CASCADE
);
INSERT INTO "secret_version" VALUES('tnt_dev','sec_01m80zczm0vh6yg7p0zdp4avm7',1,X'01F8901A23D36833C4E2769002910A26CBFA78AAB41F2A661BE0141EEDD4427AEB093008283486BA',X'010E566062202980DA7FAB8CD2096F6F268A4A92C14B792C4672E2863B0DAF10AFCB4F2E46C1DD0A644988F8B34995E4593F01CF3016CD7CD67B80C0F1','tk_01m80zczkzhxndrxe7e23avtgs',1795329261176930,'user:admin@dev.example');
INSERT INTO "secret_version" VALUES('tnt_dev','sec_01m80zczm0vh6yg7p0zdp4avm7',2,X'01D48F5AF66BA595ABCA42FCC4D78D57EFC0E18D83B7F1E21061C6CCA105207B9661214B843A69A8',X'01F079C0DE71DA286E23F0E586EE7CEEAB0BD6BAF2B6C53D8467ED8170E5170BF955C9DB9F355613B5DD2A955D0D33A31E445105ADD4173DA76DBE2248','tk_01m80zczkzhxndrxe7e23avtgs',1795329261198595,'user:admin@dev.example');
CREATE TABLE tenant (
    tenant_id     TEXT PRIMARY KEY,
    partner_id    TEXT NOT NULL,
    -- Whether the tenant's first token named the partner; if not, it is the default one.
    partner_named BOOLEAN NOT NULL,
    policy_epoch  INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL
);
INSERT INTO "tenant" VALUES('tnt_dev','ptn_dev',1,2,1795329261178206);
CREATE TABLE tenant_key (
    id             TEXT PRIMARY KEY,
    tenant_id      TEXT NOT NULL REFERENCES tenant (tenant_id),
    version        INTEGER NOT NULL,
    partner_key_id TEXT NOT NULL REFERENCES partner_key (id),
    wrapped        BLOB NOT NULL,
    created_at     INTEGER NOT NULL,
    UNIQUE (tenant_id, version)
);
INSERT INTO "tenant_key" VALUES('tk_01m80zczkzhxndrxe7e23avtgs','tnt_dev',1,'pk_01m80zczkycxw25tm7pp1h4613',X'01651C422433CF718F9CB8038B2E8D1876195D5410B7D1A85A90A56AEA173D80D3899B02E703FB442352817D67D8F0BDB9A2351FE5E5A33C35DB75ADBD',1795329261183712);
CREATE INDEX secret_deleted ON secret (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX secret_tag_tag ON secret_tag (tenant_id, tag, secret_id);
CREATE UNIQUE INDEX pki_ca_id ON pki_ca (id);
CREATE INDEX pki_crl_due ON pki_crl (due_at);
CREATE UNIQUE INDEX pki_crl_ca ON pki_crl (ca_id);
CREATE INDEX pki_certificate_serial ON pki_certificate (tenant_id, serial);
CREATE INDEX pki_certificate_expiry ON pki_certificate (tenant_id, not_after);
CREATE INDEX pki_certificate_revoked ON pki_certificate (tenant_id, ca_id) WHERE revoked_at IS NOT NULL;
CREATE INDEX audit_log_request ON audit_log (tenant_id, request_id);
CREATE INDEX audit_log_identity ON audit_log (tenant_id, identity_id, timestamp);
CREATE INDEX audit_log_path ON audit_log (tenant_id, secret_path, timestamp);
CREATE INDEX audit_log_action ON audit_log (tenant_id, action, timestamp);
CREATE INDEX event_outbox_created ON event_outbox (created_at);
COMMIT;
