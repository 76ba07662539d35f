// The AWS SDK for JavaScript v3 with its own settings: endpoint, region and keys come from the environment.
// Each test stands at the beginning of a line: test_sdk_js.py finds them by that.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import {
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteTableCommand,
  DescribeTableCommand,
  DynamoDBClient,
  ExecuteStatementCommand,
  GetItemCommand,
  PutItemCommand,
  ResourceNotFoundException,
  TransactionCanceledException,
  paginateListTables,
  waitUntilTableExists,
  waitUntilTableNotExists,
} from "@aws-sdk/client-dynamodb";
import {
  BatchGetCommand,
  BatchWriteCommand,
  DeleteCommand,
  DynamoDBDocumentClient,
  GetCommand,
  NumberValue,
  PutCommand,
  QueryCommand,
  TransactGetCommand,
  TransactWriteCommand,
  UpdateCommand,
  paginateQuery,
  paginateScan,
} from "@aws-sdk/lib-dynamodb";

const WAIT_S_MAX = 60;
const client = new DynamoDBClient({});
const documents = DynamoDBDocumentClient.from(client, { marshallOptions: { removeUndefinedValues: true } });
const table = `clients-js-${randomUUID().slice(0, 8)}`;
const indexed = `${table}-indexed`;

const text = (name) => ({ AttributeName: name, AttributeType: "S" });
const key = (name, kind) => ({ AttributeName: name, KeyType: kind });

before(async () => {
  await client.send(
    new CreateTableCommand({
      TableName: table,
      KeySchema: [key("pk", "HASH"), key("sk", "RANGE")],
      AttributeDefinitions: [text("pk"), text("sk")],
      BillingMode: "PAY_PER_REQUEST",
    }),
  );
  const waited = await waitUntilTableExists({ client, maxWaitTime: WAIT_S_MAX, minDelay: 1 }, { TableName: table });
  assert.equal(waited.state, "SUCCESS");
});

after(async () => {
  await client.send(new DeleteTableCommand({ TableName: table }));
  await waitUntilTableNotExists({ client, maxWaitTime: WAIT_S_MAX, minDelay: 1 }, { TableName: table });
  client.destroy();
});

test("a document is put, read, updated and deleted", async () => {
  const item = { pk: "crud", sk: "1", n: 1.5, list: [1, "a", null, true, { deep: [] }], set: new Set(["x", "y"]) };
  await documents.send(new PutCommand({ TableName: table, Item: { ...item, gone: undefined } }));
  const found = await documents.send(
    new GetCommand({ TableName: table, Key: { pk: "crud", sk: "1" }, ConsistentRead: true }),
  );
  assert.deepEqual(found.Item, item);
  const updated = await documents.send(
    new UpdateCommand({
      TableName: table,
      Key: { pk: "crud", sk: "1" },
      UpdateExpression: "SET #l[0] = :v, n = n + :v REMOVE #l[1]",
      ExpressionAttributeNames: { "#l": "list" },
      ExpressionAttributeValues: { ":v": 2 },
      ReturnValues: "ALL_NEW",
    }),
  );
  assert.deepEqual(updated.Attributes, { ...item, n: 3.5, list: [2, null, true, { deep: [] }] });
  const deleted = await documents.send(
    new DeleteCommand({ TableName: table, Key: { pk: "crud", sk: "1" }, ReturnValues: "ALL_OLD" }),
  );
  assert.equal(deleted.Attributes.n, 3.5);
});

test("binary and exact numbers survive", async () => {
  const digits = "12345678901234567890123456789012345678";
  const item = { pk: "exact", sk: "1", digits: NumberValue.from(digits), bytes: new Uint8Array([0, 127, 128, 255]) };
  await documents.send(new PutCommand({ TableName: table, Item: item }));
  const found = await client.send(
    new GetItemCommand({ TableName: table, Key: { pk: { S: "exact" }, sk: { S: "1" } }, ConsistentRead: true }),
  );
  assert.equal(found.Item.digits.N, digits);
  assert.deepEqual([...found.Item.bytes.B], [0, 127, 128, 255]);
});

test("a failed condition is an exception of its class with the item", async () => {
  const put = { TableName: table, Item: { pk: { S: "cond" }, sk: { S: "1" }, n: { N: "7" } } };
  await client.send(new PutItemCommand(put));
  const again = new PutItemCommand({
    ...put,
    ConditionExpression: "attribute_not_exists(pk)",
    ReturnValuesOnConditionCheckFailure: "ALL_OLD",
  });
  await assert.rejects(client.send(again), (error) => {
    assert.ok(error instanceof ConditionalCheckFailedException);
    assert.equal(error.message, "The conditional request failed");
    assert.deepEqual(error.Item, put.Item);
    assert.equal(error.$metadata.httpStatusCode, 400);
    assert.equal(error.$metadata.attempts, 1);
    return true;
  });
});

test("pages of queries and scans are walked to their end", async () => {
  const numbers = [...Array(40).keys()];
  let left = numbers.map((n) => ({ PutRequest: { Item: { pk: "pages", sk: String(n).padStart(3, "0"), n } } }));
  while (left.length) {
    const answer = await documents.send(
      new BatchWriteCommand({ RequestItems: { [table]: left.slice(0, 25) }, ReturnConsumedCapacity: "TOTAL" }),
    );
    assert.ok(answer.ConsumedCapacity[0].CapacityUnits >= 1);
    left = [...(answer.UnprocessedItems?.[table] ?? []), ...left.slice(25)];
  }
  const query = {
    TableName: table,
    KeyConditionExpression: "pk = :p AND begins_with(sk, :s)",
    ExpressionAttributeValues: { ":p": "pages", ":s": "0" },
    ConsistentRead: true,
    ScanIndexForward: false,
  };
  const found = [];
  let pages = 0;
  for await (const page of paginateQuery({ client: documents, pageSize: 15 }, query)) {
    found.push(...page.Items.map((item) => item.n));
    pages += 1;
  }
  assert.deepEqual([pages, found], [3, numbers.toReversed()]);
  const scanned = [];
  const filter = { FilterExpression: "pk = :p", ExpressionAttributeValues: { ":p": "pages" }, ConsistentRead: true };
  for await (const page of paginateScan({ client: documents, pageSize: 11 }, { TableName: table, ...filter })) {
    scanned.push(...page.Items.map((item) => item.n));
  }
  assert.deepEqual(
    scanned.sort((a, b) => a - b),
    numbers,
  );
});

test("a batch is read as documents", async () => {
  await documents.send(new PutCommand({ TableName: table, Item: { pk: "batch", sk: "1", n: 1 } }));
  const keys = [
    { pk: "batch", sk: "1" },
    { pk: "batch", sk: "none" },
  ];
  const answer = await documents.send(
    new BatchGetCommand({ RequestItems: { [table]: { Keys: keys, ConsistentRead: true } } }),
  );
  assert.deepEqual(answer.Responses, { [table]: [{ pk: "batch", sk: "1", n: 1 }] });
  assert.deepEqual(answer.UnprocessedKeys, {});
});

test("an answer of many kilobytes comes through whole", async () => {
  const body = "compressible ".repeat(20_000);
  await documents.send(new PutCommand({ TableName: table, Item: { pk: "large", sk: "1", body } }));
  const found = await documents.send(
    new GetCommand({ TableName: table, Key: { pk: "large", sk: "1" }, ConsistentRead: true }),
  );
  assert.equal(found.Item.body, body);
});

test("a cancelled transaction says why, operation by operation", async () => {
  const put = (sk, more = {}) => ({ Put: { TableName: table, Item: { pk: "tx", sk }, ...more } });
  const unless = { ConditionExpression: "attribute_not_exists(pk)", ReturnValuesOnConditionCheckFailure: "ALL_OLD" };
  await documents.send(new TransactWriteCommand({ TransactItems: [put("1", unless), put("2", unless)] }));
  const again = new TransactWriteCommand({ TransactItems: [put("3"), put("2", unless)] });
  await assert.rejects(documents.send(again), (error) => {
    assert.ok(error instanceof TransactionCanceledException);
    assert.deepEqual(
      error.CancellationReasons.map((reason) => reason.Code),
      ["None", "ConditionalCheckFailed"],
    );
    assert.ok(error.CancellationReasons[1].Item);
    return true;
  });
  const get = (sk) => ({ Get: { TableName: table, Key: { pk: "tx", sk } } });
  const read = await documents.send(new TransactGetCommand({ TransactItems: [get("1"), get("3")] }));
  assert.deepEqual(
    read.Responses.map((response) => response.Item),
    [{ pk: "tx", sk: "1" }, undefined],
  );
});

test("a statement of PartiQL is executed", async () => {
  const insert = `INSERT INTO "${table}" VALUE {'pk': ?, 'sk': ?, 'n': 1}`;
  const parameters = [{ S: "ql" }, { S: "1" }];
  await client.send(new ExecuteStatementCommand({ Statement: insert, Parameters: parameters }));
  const select = `SELECT * FROM "${table}" WHERE pk = ? AND sk = ?`;
  const read = { Statement: select, Parameters: parameters, ConsistentRead: true };
  const answer = await client.send(new ExecuteStatementCommand(read));
  assert.deepEqual(answer.Items, [{ pk: { S: "ql" }, sk: { S: "1" }, n: { N: "1" } }]);
});

test("indexes are made with the table and queried", async (t) => {
  const projection = { Projection: { ProjectionType: "ALL" } };
  await client.send(
    new CreateTableCommand({
      TableName: indexed,
      KeySchema: [key("pk", "HASH"), key("sk", "RANGE")],
      AttributeDefinitions: [text("pk"), text("sk"), text("a"), text("g")],
      LocalSecondaryIndexes: [{ IndexName: "by-a", KeySchema: [key("pk", "HASH"), key("a", "RANGE")], ...projection }],
      GlobalSecondaryIndexes: [{ IndexName: "by-g", KeySchema: [key("g", "HASH")], ...projection }],
      BillingMode: "PAY_PER_REQUEST",
    }),
  );
  t.after(() => client.send(new DeleteTableCommand({ TableName: indexed })));
  await waitUntilTableExists({ client, maxWaitTime: WAIT_S_MAX, minDelay: 1 }, { TableName: indexed });
  for (const [sk, a] of [["1", "z"], ["2", "y"], ["3", undefined]]) {
    await documents.send(new PutCommand({ TableName: indexed, Item: { pk: "p", sk, a, g: `g${sk}` } }));
  }
  const local = { IndexName: "by-a", KeyConditionExpression: "pk = :p", ExpressionAttributeValues: { ":p": "p" } };
  const sorted = await documents.send(new QueryCommand({ TableName: indexed, ...local, ConsistentRead: true }));
  assert.deepEqual(
    sorted.Items.map((item) => item.sk),
    ["2", "1"],
  );
  const global = { IndexName: "by-g", KeyConditionExpression: "g = :g", ExpressionAttributeValues: { ":g": "g3" } };
  const deadline = Date.now() + WAIT_S_MAX * 1000;
  let found;
  do {
    found = await documents.send(new QueryCommand({ TableName: indexed, ...global }));
  } while (!found.Count && Date.now() < deadline);
  assert.deepEqual(found.Items, [{ pk: "p", sk: "3", g: "g3" }]);
});

test("tables are listed page by page and missing ones refused", async () => {
  const names = [];
  for await (const page of paginateListTables({ client, pageSize: 1 }, {})) names.push(...page.TableNames);
  assert.ok(names.includes(table));
  const missing = new DescribeTableCommand({ TableName: "no-such-table" });
  await assert.rejects(client.send(missing), (error) => {
    assert.ok(error instanceof ResourceNotFoundException);
    return /^Requested resource not found: Table: no-such-table not found$/.test(error.message);
  });
});
