// Runs the module of docs/integrate/browser outside of a browser: prints each list, and ends after so many.
import { pathToFileURL } from 'node:url';
import { EventSource } from 'eventsource';

globalThis.EventSource = EventSource;
const [module, feed, userId, count] = process.argv.slice(2);
const { followRecommendations } = await import(pathToFileURL(module));
let left = Number(count);
const end = followRecommendations(feed, userId, (list) => {
  console.log(JSON.stringify(list));
  left -= 1;
  if (left === 0) end();
}, { limit: 3 });
