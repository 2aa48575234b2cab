'use strict';
// The page's elements, and its connection to the server: in a host's frame MCP Apps (SEP-1865) through postMessage, in
// a browser tab MCP over HTTP at /mcp.
//
// Rules of the page: text is inserted as text, never as markup. It loads nothing but through these two connections. A
// paid call needs a price on the screen and a second click, and is never sent twice.
//
// The scripts share one scope and run in this order: connection.js, jobs.js, forms.js, table.js, compare.js,
// views.js, image.js, app.js.

const IN_HOST = window.parent !== window;

// -- elements ---------------------------------------------------------------------------------------------------------

function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== 'list') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const $ = (id) => document.getElementById(id);
const usd = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', maximumFractionDigits: 6 });
const money = (amount) => (amount === 0 ? 'free' : usd.format(amount));
const plural = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;

function showNotice(text, kind = '') {
  const notice = $('notice');
  notice.className = `notice words ${kind}`;
  notice.textContent = text;
  notice.hidden = !text;
}

// -- requests ---------------------------------------------------------------------------------------------------------

class Refusal extends Error {}  // The server refused the request.
class NoAnswer extends Error {}  // No answer arrived; the server may or may not have done the work.

// Invalid request, unknown method, invalid parameters: only these errors prove that the server did nothing.
const errorOf = ({ code, message }) => new ([-32600, -32601, -32602].includes(code) ? Refusal : NoAnswer)(String(message));

let lastId = 0;
const waiting = new Map();
let host = { capabilities: {}, context: {} };

function postToHost(message) { window.parent.postMessage({ jsonrpc: '2.0', ...message }, '*'); }
function notifyHost(method, params = {}) { if (IN_HOST) postToHost({ method, params }); }
function askHost(method, params) {
  return new Promise((resolve, reject) => {
    const id = ++lastId;
    waiting.set(id, { resolve, reject });
    postToHost({ id, method, params });
  });
}

function onMessage(event) {
  if (event.source !== window.parent || event.data?.jsonrpc !== '2.0') return;
  const { id, method, params = {}, result, error } = event.data;
  if (method === undefined) {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error) asked?.reject(errorOf(error));
    else asked?.resolve(result ?? {});
    return;
  }
  const answer = HANDLERS[method]?.(params);
  if (id === undefined) return;
  if (method in HANDLERS) postToHost({ id, result: answer ?? {} });
  else postToHost({ id, error: { code: -32601, message: `the gallery does not know ${method}` } });
}

const HANDLERS = {
  ping: () => ({}),
  'ui/notifications/tool-input': (params) => { toolInput = params.arguments ?? {}; showAsking(); },
  'ui/notifications/tool-result': (params) => { showToolResult(params); },
  'ui/notifications/tool-cancelled': () => {
    stopPolling();
    showNotice('The call was cancelled. A job that was already made goes on: look among the recent jobs.', 'care');
    if (!current) showJobs();
  },
  'ui/notifications/host-context-changed': (params) => { Object.assign(host.context, params); applyHostContext(); },
  'ui/resource-teardown': () => { stopPolling(); },
};

const TOKEN_KEY = 'triptych-token';
let token = null;

async function requestOverHttp(method, params) {
  const body = {
    jsonrpc: '2.0', id: ++lastId, method,
    params: { ...params, _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 'triptych-gallery', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    } },
  };
  for (;;) {
    const sent = token;
    let response, text;
    try {
      response = await fetch(new URL('mcp', location.href), {
        method: 'POST',
        headers: {
          'Content-Type': 'application/json', Accept: 'application/json, text/event-stream',
          'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': method, 'Mcp-Name': params.name ?? params.uri,
          ...(sent ? { Authorization: `Bearer ${sent}` } : {}),
        },
        body: JSON.stringify(body),
      });
      text = await response.text();
    } catch {
      throw new NoAnswer('The server cannot be reached.');
    }
    if (response.status === 401) {
      if (sent === token) await askForToken(); // else another request has asked meanwhile
      continue;
    }
    const streamed = response.headers.get('content-type')?.includes('event-stream');
    let message;
    try {
      const candidates = streamed ? text.split(/\r?\n/).filter((l) => l.startsWith('data:')).map((l) => l.slice(5)) : [text];
      message = candidates.filter((l) => l.trim()).map((l) => JSON.parse(l)).find((m) => m.id === body.id || m.error);
    } catch { /* reported below */ }
    if (!message) throw new NoAnswer(`The server answered ${response.status} without a result.`);
    if (message.error) throw errorOf(message.error);
    return message.result;
  }
}

let askingForToken = null;
function askForToken() {
  askingForToken ??= new Promise((resolve) => {
    const wrong = token !== null;
    const input = h('input', { type: 'password', name: 'token', autocomplete: 'off', required: true, spellcheck: false });
    const button = h('button', { type: 'button', className: 'main' }, 'Continue');
    const panel = h('div', {});
    const form = panelForm(panel, wrong ? 'The server does not take this token' : 'This server asks for a token', button, () => {
      token = input.value.trim();
      sessionStorage.setItem(TOKEN_KEY, token);
      askingForToken = null;
      panel.remove();
      resolve();
    }, h('label', {}, 'The server’s TRIPTYCH_AUTH_TOKEN, or an access token; it is kept until this tab closes', input), h('div', { className: 'row' }, button));
    panel.append(form);
    $('page').prepend(panel);
    input.focus();
  });
  return askingForToken;
}

const request = (method, params) => (IN_HOST ? askHost(method, params) : requestOverHttp(method, params));

async function call(name, args) {
  const answer = await request('tools/call', { name, arguments: args });
  if (answer.isError) throw new Refusal(textOf(answer).replace(/^Error: /, '') || `${name} was refused.`);
  return answer;
}
const textOf = (answer) => (answer.content ?? []).filter((c) => c.type === 'text').map((c) => c.text).join('\n');

function openLink(url) {
  if (IN_HOST) askHost('ui/open-link', { url }).catch((error) => showNotice(`The host did not open the link: ${error.message}`, 'care'));
  else window.open(url, '_blank', 'noopener,noreferrer');
}
function isWeb(url) {
  try {
    const { protocol, hostname, origin } = new URL(url);
    const here = origin === location.origin || ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
    return protocol === 'https:' || (protocol === 'http:' && here);
  } catch { return false; }
}

// Put a call of the user's into the assistant's context: the assistant did not make it.
function tellAssistant(text) {
  if (IN_HOST && host.capabilities.updateModelContext)
    askHost('ui/update-model-context', { content: [{ type: 'text', text }] }).catch(() => {});
}

