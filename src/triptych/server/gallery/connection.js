'use strict';
// The gallery of one Triptych server: in a host's frame it speaks MCP Apps (SEP-1865) through postMessage, in a browser
// of its own it speaks MCP to /mcp. Rules: text goes in as text, never as markup; nothing is loaded from anywhere but
// through the two; nothing is paid for without a price shown and a second click; nothing paid is ever sent twice.

const IN_HOST = window.parent !== window;
const LOOKS_MOST = 2400, LOOK_GAP_MS = 1500, GAP_PER_IMAGE_MS = 5, STATUS_WAIT_S = 5, FAILURES_MOST = 5;
const PREVIEWS_AT_ONCE = 4, PREVIEWS_KEPT = 120;
const UNFINISHED = new Set(['queued', 'running', 'asking']);
const LOST = new Set(['failed', 'cancelled', 'uncertain']);

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

function say(text, kind = '') {
  const said = $('said');
  said.className = `notice words ${kind}`;
  said.textContent = text;
  said.hidden = !text;
}

// -- speaking ---------------------------------------------------------------------------------------------------------

class Refusal extends Error {}  // The server answered, and said no.
class Silence extends Error {}  // There is no answer: what was asked may or may not have been done.

// Only a request that was not understood surely did nothing.
const fault = ({ code, message }) => new ([-32600, -32601, -32602].includes(code) ? Refusal : Silence)(String(message));

let lastId = 0;
const waiting = new Map();
let host = { capabilities: {}, context: {} };

function post(message) { window.parent.postMessage({ jsonrpc: '2.0', ...message }, '*'); }
function notify(method, params = {}) { if (IN_HOST) post({ method, params }); }
function ask(method, params) {
  return new Promise((resolve, reject) => {
    const id = ++lastId;
    waiting.set(id, { resolve, reject });
    post({ id, method, params });
  });
}

function hear(event) {
  if (event.source !== window.parent || event.data?.jsonrpc !== '2.0') return;
  const { id, method, params = {}, result, error } = event.data;
  if (method === undefined) {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error) asked?.reject(fault(error));
    else asked?.resolve(result ?? {});
    return;
  }
  const answer = HEARD[method]?.(params);
  if (id === undefined) return;
  if (method in HEARD) post({ id, result: answer ?? {} });
  else post({ id, error: { code: -32601, message: `the gallery does not know ${method}` } });
}

const HEARD = {
  ping: () => ({}),
  'ui/notifications/tool-input': (params) => { toolInput = params.arguments ?? {}; showAsking(); },
  'ui/notifications/tool-result': (params) => { takeToolResult(params); },
  'ui/notifications/tool-cancelled': () => {
    stopFollowing();
    say('The call was cancelled. A job that was already made goes on: look among the recent jobs.', 'care');
    if (!current) showJobs();
  },
  'ui/notifications/host-context-changed': (params) => { Object.assign(host.context, params); dress(); },
  'ui/resource-teardown': () => { stopFollowing(); },
};

const TOKEN_KEY = 'triptych-token';
let token = null;

async function overHttp(method, params) {
  const body = {
    jsonrpc: '2.0', id: ++lastId, method,
    params: { ...params, _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 'triptych-gallery', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    } },
  };
  for (;;) {
    let response, text;
    try {
      response = await fetch(new URL('mcp', location.href), {
        method: 'POST',
        headers: {
          'Content-Type': 'application/json', Accept: 'application/json, text/event-stream',
          'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': method, 'Mcp-Name': params.name ?? params.uri,
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
        },
        body: JSON.stringify(body),
      });
      text = await response.text();
    } catch {
      throw new Silence('The server cannot be reached.');
    }
    if (response.status === 401) {
      await askForToken();
      continue;
    }
    const streamed = response.headers.get('content-type')?.includes('event-stream');
    let message;
    try {
      const candidates = streamed ? text.split(/\r?\n/).filter((l) => l.startsWith('data:')).map((l) => l.slice(5)) : [text];
      message = candidates.filter((l) => l.trim()).map((l) => JSON.parse(l)).find((m) => m.id === body.id || m.error);
    } catch { /* said below */ }
    if (!message) throw new Silence(`The server answered ${response.status} without a result.`);
    if (message.error) throw fault(message.error);
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
    }, h('label', {}, 'The server’s TRIPTYCH_AUTH_TOKEN; it is kept until this tab closes', input), h('div', { className: 'row' }, button));
    panel.append(form);
    $('page').prepend(panel);
    input.focus();
  });
  return askingForToken;
}

const request = (method, params) => (IN_HOST ? ask(method, params) : overHttp(method, params));

async function call(name, args) {
  const answer = await request('tools/call', { name, arguments: args });
  if (answer.isError) throw new Refusal(textOf(answer).replace(/^Error: /, '') || `${name} was refused.`);
  return answer;
}
const textOf = (answer) => (answer.content ?? []).filter((c) => c.type === 'text').map((c) => c.text).join('\n');

function openLink(url) {
  if (IN_HOST) ask('ui/open-link', { url }).catch((error) => say(`The host did not open the link: ${error.message}`, 'care'));
  else window.open(url, '_blank', 'noopener,noreferrer');
}
function isWeb(url) {
  try {
    const { protocol, hostname, origin } = new URL(url);
    const here = origin === location.origin || ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
    return protocol === 'https:' || (protocol === 'http:' && here);
  } catch { return false; }
}

// The assistant did not make this call, and should know of it.
function tellAssistant(text) {
  if (IN_HOST && host.capabilities.updateModelContext)
    ask('ui/update-model-context', { content: [{ type: 'text', text }] }).catch(() => {});
}

