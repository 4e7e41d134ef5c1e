// An HTTPS server as the tests need it: its settings are in node.json of its directory. It answers with
// what it knows of the client's certificate.
'use strict';
const cluster = require('cluster');
const fs = require('fs');
const https = require('https');

const settings = JSON.parse(fs.readFileSync('node.json'));
const options = () => ({
    cert: fs.readFileSync(settings.cert),
    key: fs.readFileSync(settings.key),
    ca: fs.readFileSync(settings.ca),
    requestCert: settings.requestCert,
    rejectUnauthorized: settings.rejectUnauthorized,
});

if (process.argv[2] === 'cluster' && cluster.isPrimary) {
    cluster.fork();
    cluster.fork();
    process.on('SIGTERM', () => {
        cluster.disconnect(() => process.exit(0));
    });
} else {
    const server = https.createServer(options(), (request, response) => {
        const subject = request.socket.getPeerCertificate().subject;
        response.end(JSON.stringify([request.socket.authorized, subject]));
    });
    server.listen(settings.port, settings.host);
    process.on('SIGHUP', () => {
        server.setSecureContext(options());
        console.log('certificates were read again');
    });
}
