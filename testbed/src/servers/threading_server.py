"""A threaded TLS server of socketserver and ssl: python3 -c SCRIPT PORT CERT KEY."""

import socketserver
import ssl
import sys

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Handler(socketserver.StreamRequestHandler):
    timeout = 30

    def handle(self):
        # The handshake takes place here, in a thread of its own.
        while self.rfile.readline().strip():
            pass
        self.wfile.write(RESPONSE)
        self.request.unwrap()


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port, context):
        super().__init__(("127.0.0.1", port), Handler)
        self.context = context

    def get_request(self):
        tcp, address = super().get_request()
        tls = self.context.wrap_socket(tcp, server_side=True, do_handshake_on_connect=False)
        return tls, address

    def handle_error(self, request, client_address):
        # A client that left; what else it may be, it is for stderr.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    port, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    Server(int(port), context).serve_forever()


main()
