// Results of node's test runner as one line of JSON each.
export default async function* lines(source) {
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const cause = data.details?.error?.cause ?? data.details?.error;
    const error = type === "test:fail" ? String(cause?.stack ?? cause) : "";
    yield `${JSON.stringify({ name: data.name, passed: type === "test:pass", error })}\n`;
  }
}
