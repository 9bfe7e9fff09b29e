"""Follows recommendations: `pip install confluent-kafka`, then `python consumer.py HOST:PORT TOPIC`."""

import json
import sys

from confluent_kafka import Consumer

broker, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": broker, "group.id": "shop-feed", "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
shown: dict[str, int] = {}  # user to the sequence of the list that is shown; keep it where you keep the lists
try:
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None or message.value() is None:
            continue  # nothing new; the client tries again by itself; a user whose list was deleted
        update = json.loads(message.value())
        if update["sequence"] <= shown.get(update["user_id"], 0):
            continue  # after a crash of a worker an update can come again
        shown[update["user_id"]] = update["sequence"]
        print(update["user_id"], update["sequence"], *(item["item_id"] for item in update["items"]), flush=True)
except KeyboardInterrupt:
    consumer.close()
