// Creates a container: `node container.mjs CONNECTION_STRING NAME`.
import { BlobServiceClient } from "@azure/storage-blob";

const [address, name] = process.argv.slice(2);
await BlobServiceClient.fromConnectionString(address).createContainer(name);
