// An OpenID provider for the tests of sign-in. Anybody may sign in under any name; `root` is in the group `operators`.
// Usage: node provider.mjs <package directory> <port> <key set as JSON>. A key set of its own each time: that is a rotation.

import { pathToFileURL } from 'node:url';

const [packages, port, jwks] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${packages}/node_modules/oidc-provider/lib/index.js`));

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(jwks),
  clients: [{
    client_id: 'cli',
    application_type: 'native',
    id_token_signed_response_alg: 'ES256',
    token_endpoint_auth_method: 'none',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  cookies: { keys: ['a secret of the tests'] },
  pkce: { required: () => true },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (_context, token) => ({
    email: `${token.accountId}@acme.test`,
    email_verified: token.accountId !== 'unverified',
    groups: token.accountId === 'root' ? ['operators'] : ['people'],
  }),
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://api.millrace.test',
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'api',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 300,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

provider.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'));
process.stdin.on('end', () => process.exit(0)).resume(); // It ends with the test that started it.
