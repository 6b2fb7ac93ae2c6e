// Reads requests as their receivers would: a browser what a push service handed it (http_ece), the push service who sent it
// (jose), and an institution its webhook (standardwebhooks). In and out: JSON lines.
import { createECDH } from 'node:crypto'
import { createInterface } from 'node:readline'
import ece from 'http_ece'
import * as jose from 'jose'
import { Webhook } from 'standardwebhooks'

const readers = {
  push({ body, key, auth }) {
    const browser = createECDH('prime256v1')
    browser.setPrivateKey(key, 'base64url')
    return ece.decrypt(Buffer.from(body, 'base64'), { version: 'aes128gcm', privateKey: browser, authSecret: auth }).toString()
  },
  async vapid({ authorization, audience }) {
    const [, token, k] = /^vapid t=([^,\s]+), k=([A-Za-z0-9_-]+)$/.exec(authorization)
    const point = Buffer.from(k, 'base64url')
    const key = await jose.importJWK({
      kty: 'EC', crv: 'P-256', x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url'),
    }, 'ES256')
    const { payload } = await jose.jwtVerify(token, key, { audience, algorithms: ['ES256'], typ: 'JWT', maxTokenAge: undefined, requiredClaims: ['exp', 'sub'] })
    return payload
  },
  webhook({ secret, headers, body }) {
    return new Webhook(secret).verify(body, headers)
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { reader, given } = JSON.parse(line)
  try {
    console.log(JSON.stringify({ read: await readers[reader](given) }))
  } catch (e) {
    console.log(JSON.stringify({ error: String(e) }))
  }
}
