// Goes through a flow with openid-client, as its documentation says. The test that runs it is the customer's browser: it
// opens what is printed behind "open", and writes the address at which it was sent back.
import { createInterface } from 'node:readline'
import * as oidc from 'openid-client'

const given = JSON.parse(process.env.FLOW) // issuer, client_id, key (JWK), redirect_uri, resource, scope, flow
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const done = (what) => console.log('ok', what)

function check(what, holds) {
  if (!holds) throw new Error('not so: ' + what)
  done(what)
}

async function visit(url) {
  console.log('open', url.href)
  return new URL((await lines.next()).value)
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const key = { key: await crypto.subtle.importKey('jwk', given.key, algorithm, false, ['sign']), kid: given.key.kid }

async function configure(...execute) {
  const metadata = { authorization_signed_response_alg: 'ES256', id_token_signed_response_alg: 'ES256' }
  const config = await oidc.discovery(new URL(given.issuer), given.client_id, metadata, oidc.PrivateKeyJwt(key), { execute })
  done('discovery')
  return config
}

async function request(more) {
  const verifier = oidc.randomPKCECodeVerifier()
  const checks = { pkceCodeVerifier: verifier, expectedState: oidc.randomState(), expectedNonce: oidc.randomNonce() }
  const parameters = {
    redirect_uri: given.redirect_uri,
    scope: given.scope,
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...more,
  }
  return { parameters, checks }
}

// PAR, JAR, JARM and DPoP together: FAPI 2.0 Message Signing.
async function messageSigning() {
  const config = await configure(oidc.useJwtResponseMode, oidc.enableNonRepudiationChecks)
  const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
  const { parameters, checks } = await request()
  const signed = await oidc.buildAuthorizationUrlWithJAR(config, parameters, key)
  const url = await oidc.buildAuthorizationUrlWithPAR(config, signed.searchParams, { DPoP })
  check('PAR took the signed request', url.searchParams.get('request_uri').startsWith('urn:'))
  const callback = await visit(url)
  check('JARM answers with nothing but a JWT', [...callback.searchParams.keys()].join() === 'response')
  const tokens = await oidc.authorizationCodeGrant(config, callback, checks, undefined, { DPoP })
  check('tokens bound by DPoP', tokens.token_type === 'dpop' && tokens.claims().nonce === checks.expectedNonce)
  await resourceAndUserInfo(config, tokens, DPoP)
  const fresh = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
  check('refreshed', fresh.access_token !== tokens.access_token)
  await oidc.tokenRevocation(config, tokens.refresh_token)
  const refused = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP }).catch((e) => e)
  check('revoked: invalid_grant', refused.error === 'invalid_grant')
}

async function resourceAndUserInfo(config, tokens, DPoP) {
  const user = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP })
  check('userinfo is about the same customer', user.sub === tokens.claims().sub)
  if (!given.resource) return
  const answer = await oidc.fetchProtectedResource(config, tokens.access_token, new URL(given.resource), 'GET', undefined, undefined, { DPoP })
  check('the resource answers: ' + answer.status, answer.status === 200)
}

// code id_token, the ID token as a detached signature of the answer.
async function hybrid() {
  const config = await configure(oidc.useCodeIdTokenResponseType, oidc.enableDetachedSignatureResponseChecks)
  const { parameters, checks } = await request()
  const callback = await visit(oidc.buildAuthorizationUrl(config, parameters))
  check('the answer is in the fragment', callback.hash.includes('id_token=') && callback.search === '')
  const tokens = await oidc.authorizationCodeGrant(config, callback, checks)
  check('c_hash, s_hash and both ID tokens', tokens.claims().nonce === checks.expectedNonce)
  await resourceAndUserInfo(config, tokens)
}

// RFC 8628.
async function device() {
  const config = await configure()
  const started = await oidc.initiateDeviceAuthorization(config, { scope: given.scope })
  check('a code to type', /^[A-Z]{4}-[A-Z]{4}$/.test(started.user_code))
  const polling = oidc.pollDeviceAuthorizationGrant(config, started)
  await visit(new URL(started.verification_uri_complete))
  const tokens = await polling
  check('tokens for the device', tokens.claims().aud === given.client_id)
  await resourceAndUserInfo(config, tokens)
}

await { messageSigning, hybrid, device }[given.flow]()
console.log('done')
process.exit(0)
