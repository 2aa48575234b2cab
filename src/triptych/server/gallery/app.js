// What the user can do, the list of jobs, and the start of the page in a host or in a tab.

// -- actions ----------------------------------------------------------------------------------------------------------

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

function recentJobsButton() { return h('button', { type: 'button', onclick: () => showJobs() }, 'Recent jobs'); }

async function showJobs({ push = true } = {}) {
  stopPolling();
  const mine = pollTurn;
  current = shownHandle = compared = null;
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
  else if (place.startsWith(COMPARISON)) showComparison(place.slice(COMPARISON.length).split(','), { push: false });
  else if (place.includes('/') || place.startsWith('img_')) openImage(place, { push: false });
  else if (place === current && shownHandle && !compared) closeImage({ push: false });
  else openJob(place, { push: false });
}

async function start() {
  if (!IN_HOST) {
    $('brand').hidden = false;  // a host shows the icon itself
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
