// Follows recommendations: `npm install`, then `node consumer.mjs HOST:PORT TOPIC`.
import { Kafka, logLevel } from 'kafkajs';

const [broker, topic] = process.argv.slice(2);
const kafka = new Kafka({ clientId: 'shop-feed', brokers: [broker], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: 'shop-feed-node' });
const shown = new Map(); // user to the sequence of the list that is shown; keep it where you keep the lists

await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    if (message.value === null) return; // a user whose list was deleted
    const update = JSON.parse(message.value.toString());
    if (update.sequence <= (shown.get(update.user_id) ?? 0)) return; // after a crash an update can come again
    shown.set(update.user_id, update.sequence);
    console.log(update.user_id, update.sequence, ...update.items.map((item) => item.item_id));
  },
});
process.once('SIGINT', () => consumer.disconnect().then(() => process.exit(0)));
