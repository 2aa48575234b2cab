// What the user can do, the list of jobs, and the start of the page in a host or in a tab.

// -- actions ----------------------------------------------------------------------------------------------------------

async function whileDisabled(button, work) {
  button.disabled = true;
  try { await work(); } catch (error) { showNotice(error.message, 'bad'); } finally { button.disabled = false; }
}

// A button that acts on its second click; the first click expires after 6 s.
function confirmButton(words, question, work) {
  let timer = 0;
  const reset = () => { clearTimeout(timer); timer = 0; button.textContent = words; button.classList.remove('confirming'); };
  const button = h('button', { type: 'button', onclick: () => {
    if (timer) { reset(); whileDisabled(button, work); return; }
    button.textContent = question;
    button.classList.add('confirming');
    timer = setTimeout(reset, 6000);
  } }, words);
  return button;
}

async function refresh(id, wait_s = 0) {
  showNotice('');
  await updateJob((await call('get_status', { job_id: id, wait_s })).structuredContent);
  poll(id);
}

async function cancel(id) {
  const result = (await call('cancel_job', { job_id: id })).structuredContent;
  tellAssistant(`In the gallery the user cancelled ${id}; it is ${result.status} now.`);
  await updateJob(result);
  poll(id);
}

function showPanel(panel, form, opener) {
  form.opener = opener;
  panel.replaceChildren(form);
  (form.querySelector('textarea, input') ?? form.querySelector('button')).focus();
}
function closePanel(panel) {
  const opener = panel.firstElementChild?.opener;
  panel.replaceChildren();
  opener?.focus();
}
// Not a form element: the sandbox of a host's frame may forbid forms.
function panelForm(panel, title, button, work, ...children) {
  const form = h('div', { className: 'panel', role: 'group', 'aria-label': title, onkeydown: (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); closePanel(panel); }
    if (event.key === 'Enter' && event.target.tagName === 'INPUT') { event.preventDefault(); button.click(); }
  } }, h('h2', {}, title), ...children);
  button.addEventListener('click', () => {
    if ([...form.querySelectorAll('input, textarea')].every((field) => field.reportValidity())) work();
  });
  return form;
}

// The first click shows the price, the second pays. The price shown is the most that the call may cost.
function paidForm({ title, tool, prompt, counted = false, args, panel, made }) {
  const words = prompt === undefined ? null : h('textarea', { name: 'prompt', required: true, maxLength: 8000, value: prompt, oninput: () => forget() });
  const count = counted ? h('input', { type: 'number', name: 'count', min: 1, max: 14, value: 1, required: true, oninput: () => forget() }) : null;
  const price = h('p', { role: 'status', id: 'price' });
  const most = h('input', { type: 'number', name: 'most', min: 0, step: 'any', oninput: () => {
    button.textContent = `Pay up to ${usd.format(Number(most.value))} and make it`;
  } });
  const mostLabel = h('label', { hidden: true }, 'Pay at most, in US dollars', most);
  const button = h('button', { type: 'button', className: 'main' }, 'Show the price');
  let quoted = null, lost = false;
  const forget = () => { if (lost) return; quoted = null; price.textContent = ''; mostLabel.hidden = true; button.textContent = 'Show the price'; };
  const asked = () => args(words?.value.trim(), count ? Number(count.value) : undefined);
  const work = async () => {
    button.disabled = true;
    try {
      if (quoted === null) {
        const { cost, model, provider } = (await call(tool, { ...asked(), dry_run: true })).structuredContent;
        quoted = cost.quoted;
        price.textContent = `${quoted === 0 ? 'It is free' : `It costs ${money(quoted)}`}, with ${model === provider ? model : `${model} on ${provider}`}. Nothing was sent yet.`;
        most.value = quoted;
        mostLabel.hidden = quoted === 0;
        button.textContent = quoted === 0 ? 'Make it' : `Pay ${money(quoted)} and make it`;
        return;
      }
      price.textContent = 'Asking…';
      const given = { ...asked(), max_cost_usd: Number(most.value), wait_s: 0 };
      const result = (await call(tool, given)).structuredContent;
      tellAssistant(`In the gallery the user started ${result.job_id} with ${tool}: ${made}.`);
      shownHandle = null;
      setAddress(result.job_id);
      drawn = { key: null };
      updateJob(result, { show: true, input: given });
      $('title').focus();
    } catch (error) {
      lost = quoted !== null && error instanceof NoAnswer;
      price.textContent = lost ? 'The answer was lost, and it may have been paid for. Look among the recent jobs before asking again.' : error.message;
      button.hidden = lost;
      if (lost) button.after(recentJobsButton());
    } finally { button.disabled = false; }
  };
  return panelForm(panel, title, button, work,
    words && h('label', {}, title.startsWith('Edit') ? 'What should change' : 'The instruction', words),
    count && h('label', {}, 'How many images, 1 to 14', count),
    price, mostLabel,
    h('div', { className: 'row' }, button, h('button', { type: 'button', onclick: () => closePanel(panel) }, 'Not now')));
}

let lastDirectory = '';
function saveForm(handles, panel) {
  const directory = h('input', { name: 'directory', required: true, value: lastDirectory, placeholder: 'a directory the server may write to', spellcheck: false, autocomplete: 'off' });
  const name = h('input', { name: 'name', placeholder: 'the handles', spellcheck: false, autocomplete: 'off' });
  const outcome = h('p', { role: 'status', className: 'words small' });
  const button = h('button', { type: 'button', className: 'main' }, `Save ${plural(handles.length, 'image')}`);
  const work = async () => {
    button.disabled = true;
    try {
      lastDirectory = directory.value.trim();
      const args = { images: handles, directory: lastDirectory, ...(name.value.trim() && { name: name.value.trim() }) };
      const { saved, warnings } = (await call('save_images', args)).structuredContent;
      outcome.textContent = [...saved.map((s) => `Saved: ${s.path}`), ...warnings].join('\n');
    } catch (error) { outcome.textContent = error.message; } finally { button.disabled = false; }
  };
  return panelForm(panel, 'Save at full size', button, work, h('label', {}, 'Directory, on the server’s machine', directory),
    h('label', {}, 'File name, numbered if there are several (optional)', name), outcome,
    h('div', { className: 'row' }, button, h('button', { type: 'button', onclick: () => closePanel(panel) }, 'Not now')));
}

function recentJobsButton() { return h('button', { type: 'button', onclick: () => showJobs() }, 'Recent jobs'); }

async function showJobs({ push = true } = {}) {
  stopPolling();
  const mine = pollTurn;
  current = shownHandle = null;
  setAddress('', push);
  let found;
  try { found = (await call('list_jobs', { limit: 30 })).structuredContent.jobs; } catch (error) { return showNotice(error.message, 'bad'); }
  if (mine !== pollTurn || current) return;
  $('page').setAttribute('aria-busy', 'false');
  const list = h('div', { className: 'stack', id: 'grid', role: 'group', 'aria-label': 'Recent jobs', onkeydown: moveFocus },
    ...found.map((job, i) => h('button', { type: 'button', className: 'job', 'data-job': job.job_id, tabIndex: i ? -1 : 0, onclick: () => openJob(job.job_id) },
      job.returned ? thumb(`${job.job_id}/1`) : h('span', { className: 'thumb' }),
      h('span', {},
        h('span', { className: 'name' }, job.prompt), h('span', { className: 'row' }, statusChip(job.status),
          h('span', { className: 'dim small' }, [`${job.returned} of ${plural(job.requested, 'image')}`, costWords(job.cost, job.status),
            new Date(job.created_at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })].join(' · ')))))));
  replaceView('jobs', h('div', { className: 'stack' }, h('h1', {}, 'Recent jobs'), found.length ? list : h('p', { className: 'dim' }, 'There are no jobs yet.')));
}

async function openJob(id, { push = true } = {}) {
  showNotice('');
  try {
    const answer = await call('get_status', { job_id: id, wait_s: 0 });
    setAddress(id, push);
    updateJob(answer.structuredContent, { show: true });
    $('title').focus();
  } catch (error) { showNotice(error.message, 'bad'); }
}

async function toggleFull() {
  const mode = host.context.displayMode === 'fullscreen' ? 'inline' : 'fullscreen';
  try {
    host.context.displayMode = (await askHost('ui/request-display-mode', { mode })).mode;
    applyHostContext();
  } catch (error) { showNotice(error.message, 'care'); }
}

// -- start ------------------------------------------------------------------------------------------------------------

function applyHostContext() {
  const { theme, styles, displayMode, safeAreaInsets: inset } = host.context;
  const root = document.documentElement;
  root.style.colorScheme = theme === 'dark' || theme === 'light' ? theme : '';
  for (const [name, value] of Object.entries(styles?.variables ?? {})) {
    if (/^--[a-z0-9-]+$/.test(name) && typeof value === 'string' && !/url\s*\(/i.test(value)) root.style.setProperty(name, value);
  }
  if (inset) document.body.style.padding = ['top', 'right', 'bottom', 'left'].map((side) => `${Number(inset[side]) || 0}px`).join(' ');
  const full = $('full');
  if (full) full.textContent = displayMode === 'fullscreen' ? 'Leave full screen' : 'Full screen';
}

function setAddress(place, push = true) {
  if (IN_HOST || !push) return;
  const hash = place ? `#show=${place}` : '#';
  if ((location.hash || '#') !== hash) history.pushState(null, '', hash);
}

function openAddress() {
  const place = new URLSearchParams(location.hash.slice(1)).get('show') ?? '';
  if (!place) showJobs({ push: false });
  else if (place.includes('/') || place.startsWith('img_')) openImage(place, { push: false });
  else if (place === current && shownHandle) closeImage({ push: false });
  else openJob(place, { push: false });
}

async function start() {
  if (!IN_HOST) {
    const given = new URLSearchParams(location.hash.slice(1));
    if (given.has('token')) {
      sessionStorage.setItem(TOKEN_KEY, given.get('token'));
      given.delete('token');
      // The token leaves the address bar and the history.
      history.replaceState(null, '', `#${given}`);
    }
    token = sessionStorage.getItem(TOKEN_KEY);
    addEventListener('popstate', openAddress);
    openAddress();
    return;
  }
  addEventListener('message', onMessage);
  const opened = await askHost('ui/initialize', {
    protocolVersion: '2026-01-26', appInfo: { name: 'triptych-gallery', title: 'Triptych gallery', version: '1' },
    appCapabilities: { availableDisplayModes: ['inline', 'fullscreen'] },
  });
  host = { capabilities: opened.hostCapabilities ?? {}, context: opened.hostContext ?? {} };
  applyHostContext();
  notifyHost('ui/notifications/initialized');
  new ResizeObserver(() => notifyHost('ui/notifications/size-changed', { height: Math.ceil($('page').getBoundingClientRect().height) }))
    .observe($('page'));
}
start();
