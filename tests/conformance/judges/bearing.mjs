// Preloaded into the conformance suite (NODE_OPTIONS=--import …): each request to the server carries an access token.
const send = globalThis.fetch;
globalThis.fetch = (input, init = {}) => {
  const headers = new Headers(init.headers ?? input.headers);
  if (!headers.has("authorization")) headers.set("authorization", `Bearer ${process.env.BEARER}`);
  return send(input, { ...init, headers });
};
