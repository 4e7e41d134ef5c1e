"""Python's own HTTP server over TLS, as its documentation and everybody has it: python3 -c SCRIPT PORT CERT KEY."""

import http.server
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format, *args):
        pass


def main():
    port, certificate, key = sys.argv[1:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


main()
