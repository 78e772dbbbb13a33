// Node's http2 client: `node exchanges.js URL CERTIFICATE` does what is listed below, each by name, and prints
// {"name": what came of it}. The test that starts it judges.
'use strict';

const fs = require('fs');
const http2 = require('http2');

const [url, certificate] = process.argv.slice(2);
const session = http2.connect(url, { ca: fs.readFileSync(certificate), servername: 'a.example' });

// One request; resolves to all that came back.
function ask(headers, write) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': 'a.example', ...headers }, { waitForTrailers: false });
    const got = { informational: [], trailers: {}, length: 0, body: '' };
    stream.on('headers', (fields) => got.informational.push(fields[':status']));
    stream.on('response', (fields) => Object.assign(got, { status: fields[':status'], fields }));
    stream.on('trailers', (fields) => { got.trailers = { ...fields }; });
    stream.on('data', (octets) => {
      got.length += octets.length;
      if (got.body.length < 200) got.body += octets.toString('latin1');
      if (got.onData) got.onData(octets);
    });
    stream.on('error', reject);
    stream.on('close', () => {
      const { onData, ...plain } = got;
      resolve({ ...plain, fields: { ...got.fields }, code: stream.rstCode });
    });
    if (write) write(stream, got); else stream.end();
  });
}

const post = (path, body, more) => ask({ ':method': 'POST', ':path': path, ...more }, (stream) => stream.end(body));

// A message of gRPC: a flag, its length, its octets.
function message(text) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

const GRPC = { ':method': 'POST', ':path': '/grpc', 'content-type': 'application/grpc', te: 'trailers' };

const exchanges = {
  get: () => ask({ ':path': '/get' }),
  head: () => ask({ ':method': 'HEAD', ':path': '/get' }),
  hundred: async () => (await Promise.all([...Array(100).keys()].map((n) => ask({ ':path': `/${n}` })))).map((one) => one.body),
  upload: () => post('/echo', Buffer.alloc(3000000, 'u')),
  interim: () => ask({ ':path': '/hints' }),
  trailers: () => ask({ ':path': '/trailers' }),
  cookies: () => ask({ ':path': '/cookies', cookie: ['a=b', 'c=d'] }),
  ping: () => new Promise((resolve) => session.ping((error, took, octets) => resolve({ error, octets: octets.length }))),

  // The client's own trailers.
  sends_trailers: () => new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': 'a.example', ':method': 'POST', ':path': '/echo' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '7' }));
    stream.on('response', (fields) => { stream.resume(); resolve({ status: fields[':status'], sum: fields['x-saw-sum'] }); });
    stream.on('error', reject);
    stream.end('body');
  }),

  // Unary: one message, one answer, the status in the trailers. And the status alone.
  grpc_unary: () => ask(GRPC, (stream) => stream.end(message('hello'))),
  grpc_error: () => ask({ ...GRPC, ':path': '/grpc-error' }, (stream) => stream.end(message('hello'))),

  // Both ways at once: the next message goes when the answer to the last one has come.
  grpc_conversation: () => ask({ ...GRPC, ':path': '/grpc-echo' }, (stream, got) => {
    let said = 0;
    const next = () => (said < 20 ? stream.write(message(`turn ${said++}`)) : stream.end());
    got.onData = next;
    next();
  }),

  websocket: () => new Promise((resolve, reject) => {
    const begin = () => {
      const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':path': '/ws',
        ':authority': 'a.example', 'sec-websocket-version': '13' });
      let body = '';
      stream.on('response', (fields) => {
        if (fields[':status'] !== 200) return resolve({ status: fields[':status'] });
        stream.write('hello');
      });
      stream.on('data', (octets) => {
        body += octets;
        if (body === 'hello') stream.end('!');
      });
      stream.on('end', () => resolve({ status: 200, body }));
      stream.on('error', reject);
    };
    if (session.remoteSettings.enableConnectProtocol) begin();
    else resolve({ status: 'not offered' });
  }),

  cancelled: () => new Promise((resolve) => {
    const stream = session.request({ ':authority': 'a.example', ':path': '/endless' });
    stream.once('data', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    stream.on('close', () => resolve({ code: stream.rstCode }));
    stream.on('error', () => {});
  }),

  cut: () => ask({ ':path': '/cut' }).then(() => 'looked whole', (error) => error.code),
};

async function main() {
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  const said = { alpn: session.alpnProtocol };
  for (const [name, exchange] of Object.entries(exchanges)) said[name] = await exchange();
  console.log(JSON.stringify(said));
  session.close();
}

session.on('error', (error) => { console.error(error); process.exit(1); });
main().catch((error) => { console.error(error); process.exit(1); });
