// Reads an AsyncAPI document with AsyncAPI's own parser; prints what it found, and what it complains of, as JSON.
import { readFileSync } from 'node:fs';
import { AvroSchemaParser } from '@asyncapi/avro-schema-parser';
import { Parser } from '@asyncapi/parser';
import { ProtoBuffSchemaParser } from '@asyncapi/protobuf-schema-parser';

const INFORMATION = 2;
const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
parser.registerSchemaParser(new ProtoBuffSchemaParser());
const { document, diagnostics } = await parser.parse(readFileSync(process.argv[2], 'utf8'));
const complaints = diagnostics.filter(({ severity }) => severity < INFORMATION);
console.log(JSON.stringify({
  channels: document?.channels().all().map((channel) => channel.address()) ?? [],
  messages: document?.messages().all().map((message) => message.id()) ?? [],
  complaints: complaints.map(({ message, path }) => `${path.join('.')}: ${message}`),
}));
