"""A TLS server of Python's ssl module: python3 -c SCRIPT PORT CERT KEY."""

import socket
import ssl
import sys

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve(tcp, context):
    tcp.settimeout(30)
    with context.wrap_socket(tcp, server_side=True) as tls:
        request = b""
        while b"\r\n\r\n" not in request:
            chunk = tls.recv(4096)
            if not chunk:
                return
            request += chunk
        tls.sendall(RESPONSE)
        tls.unwrap()


def main():
    port, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        tcp, _ = listener.accept()
        try:
            serve(tcp, context)
        except OSError:
            # A client that left; ssl.SSLError is one of these.
            pass


main()
