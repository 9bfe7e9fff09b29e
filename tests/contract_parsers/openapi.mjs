// Reads an OpenAPI document and compares it with the specification; prints its paths, or ends with what is wrong.
import SwaggerParser from '@apidevtools/swagger-parser';

const document = await SwaggerParser.validate(process.argv[2]);
console.log(JSON.stringify(Object.keys(document.paths)));
