// A relying party as people write it with npm's jose: createRemoteJWKSet on the issuer's jwks_uri. It answers each line
// of stdin, `AUDIENCE AT TOKEN`, with `accepted SUB` or `refused`; the issuer is an argument. The environment leads it to
// the test's world: CONNECT_TO as curl's --connect-to, NODE_EXTRA_CA_CERTS to its CA.
import { once } from 'node:events'
import https from 'node:https'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import tls from 'node:tls'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const issuer = process.argv[2]
const [host, port] = process.env.CONNECT_TO.split(':')

class Agent extends https.Agent {
  createConnection (options) {
    return tls.connect({ ...options, host, port: Number(port), servername: options.servername ?? options.host })
  }
}
const agent = new Agent()

async function discovery () {
  const [answer] = await once(https.get(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, { agent }), 'response')
  if (answer.statusCode !== 200) throw new Error(`HTTP ${answer.statusCode}`)
  const document = JSON.parse(await text(answer))
  if (document.issuer !== issuer) throw new Error(`The document is about ${document.issuer}.`)
  return document
}

async function verify (audience, at, token) {
  const document = await discovery()
  const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(document.jwks_uri), { agent }), {
    issuer,
    audience,
    algorithms: document.id_token_signing_alg_values_supported,
    requiredClaims: ['exp'],
    currentDate: new Date(Number(at) * 1000)
  })
  return payload.sub
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log('accepted', await verify(...line.split(' ')))
  } catch (error) {
    console.log('refused', error.code ?? error.message)
  }
}
