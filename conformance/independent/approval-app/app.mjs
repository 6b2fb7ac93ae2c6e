// The bank's own app in a few lines: it registers a device key, shows what waits, and approves it (docs/approval-app.md).
// Reads {issuer, token, sub, dpop, alg} from standard input; writes what it saw, as JSON.
import { createHash, randomUUID } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { SignJWT, exportJWK, generateKeyPair, importJWK } from 'jose'

const { issuer, token, sub, dpop, alg } = JSON.parse(await text(process.stdin))
const device = await generateKeyPair(alg, { extractable: true })
const sha256 = (bytes) => createHash('sha256').update(bytes)

async function call(method, path, type, body) {
  const { d, ...jwk } = dpop
  const proof = await new SignJWT({ htm: method, htu: issuer + path, ath: sha256(token).digest('base64url') })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).setIssuedAt().setJti(randomUUID()).sign(await importJWK(dpop, 'ES256'))
  const headers = { authorization: `DPoP ${token}`, dpop: proof, ...(type && { 'content-type': type }) }
  const response = await fetch(issuer + path, { method, headers, body })
  const bytes = Buffer.from(await response.arrayBuffer())
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${bytes}`)
  return { bytes, digest: response.headers.get('content-digest'), ...JSON.parse(bytes) }
}

const proof = await new SignJWT({}).setProtectedHeader({ alg, typ: 'approval-device+jwt', jwk: await exportJWK(device.publicKey) })
  .setAudience(issuer).setSubject(sub).setIssuedAt().setJti(randomUUID()).sign(device.privateKey)
const { id: kid } = await call('POST', '/approvals/v1/devices', 'application/json', JSON.stringify({ name: 'Phone', proof }))

const { requests } = await call('GET', '/approvals/v1/requests')
const { bytes, digest, ...shown } = await call('GET', `/approvals/v1/requests/${requests[0].id}`)
if (digest !== `sha-256=:${sha256(bytes).digest('base64')}:`) throw new Error(`Content-Digest ${digest}`)

const decision = await new SignJWT({
  approval_id: shown.id, decision: 'approve', digest: sha256(bytes).digest('base64url'), accounts: [shown.accounts[0].id], amr: ['face'],
}).setProtectedHeader({ alg, typ: 'approval+jwt', kid }).setIssuer(kid).setAudience(issuer).setIssuedAt().setJti(randomUUID()).sign(device.privateKey)
const said = await call('POST', `/approvals/v1/requests/${shown.id}/decision`, 'application/jwt', decision)

console.log(JSON.stringify({ device: kid, message: shown.binding_message, decision: said.decision }))
