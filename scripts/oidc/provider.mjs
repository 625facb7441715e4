// An OpenID provider that plays ScaiKey: client credentials, JWT and opaque access tokens, introspection, revocation.
//
//   provider.mjs FOLDER PORT KID...     KID is ec-… or rsa-…; the first of each kind signs
//
// FOLDER keeps the keys, so that one that is started again has those that it had. NODE_MODULES says where oidc-provider is.
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const modules = createRequire(`${process.env.NODE_MODULES}/`);
const { Provider } = await import(pathToFileURL(modules.resolve('oidc-provider')));
const [folder, port, ...kids] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

function key(kid) {
  const file = `${folder}/${kid}.json`;
  if (!existsSync(file)) {
    const [kind, options, alg] = kid.startsWith('ec')
      ? ['ec', { namedCurve: 'P-256' }, 'ES256']
      : ['rsa', { modulusLength: 2048 }, 'RS256'];
    const jwk = generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' });
    writeFileSync(file, JSON.stringify({ ...jwk, kid, alg, use: 'sig' }), { mode: 0o600 });
  }
  return JSON.parse(readFileSync(file));
}

// What a client asks for names the form of its token and whom it is for.
const resources = {
  'https://vault.test/ec': { audience: 'https://vault.test', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } },
  'https://vault.test/rsa': { audience: 'https://vault.test', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
  'https://other.test/ec': { audience: 'https://other.test', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } },
  'https://vault.test/opaque': { audience: 'https://vault.test', accessTokenFormat: 'opaque' },
  'https://other.test/opaque': { audience: 'https://other.test', accessTokenFormat: 'opaque' },
};
const scope = 'secrets:read secrets:write admin';
const client = (id) => ({
  client_id: id,
  client_secret: `secret of ${id}: 100%`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(issuer, {
  clients: [client('sa:billing'), client('vault')],
  scopes: scope.split(' '),
  jwks: { keys: kids.map(key) },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://vault.test/ec',
      getResourceServerInfo: (_, resource) => ({ scope, accessTokenTTL: 3600, ...resources[resource] }),
    },
  },
  extraTokenClaims: (_, token) => ({
    sub: token.clientId,
    tenant_id: 'tnt_test',
    roles: ['tenant_admin'],
  }),
});

// Personal tokens begin like those of ScaiKey.
const { prototype } = provider.ClientCredentials;
const { generateTokenId } = prototype;
prototype.generateTokenId = function generate() {
  const id = generateTokenId.call(this);
  return this.format === 'opaque' ? `skt_${id}` : id;
};

provider.listen(Number(port), '127.0.0.1', () => console.log(`serving ${kids}`));
