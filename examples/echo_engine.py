"""An engine that says back what it hears.  Run: python examples/echo_engine.py [HOST [PORT]]"""

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


def handle(connection: ServerConnection) -> None:
    try:
        for frame in connection:
            if isinstance(frame, bytes):
                connection.send(frame)
            else:
                event = json.loads(frame)
                print(event["event"], {name: value for name, value in event.items() if name != "event"}, flush=True)
    except ConnectionClosed:
        pass


if __name__ == "__main__":
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.40"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 9000
    with serve(handle, host, port, subprotocols=["ims-as.v1"], compression=None) as server:  # type: ignore[list-item]
        server.serve_forever()
