// The view of a job: its state, its look, its failures, and its images as tiles.

// -- views ------------------------------------------------------------------------------------------------------------

let drawn = { key: null };  // what the view shows; an update replaces only the parts that changed

function draw() {
  $('page').setAttribute('aria-busy', 'false');
  if (shownHandle) { drawn.refresh?.(); return; }
  if (compared) { drawComparison(); return; }
  const job = jobs.get(current);
  if (job) drawJob(job);
}

function replaceView(key, ...children) {
  drawn = { key };
  onScreen.disconnect();
  $('view').replaceChildren(...children);
  for (const face of $('view').querySelectorAll('.face, .thumb')) if (face.seen) onScreen.observe(face);
}

function statusChip(status) { return h('span', { className: `chip ${status}` }, status); }
function costWords(cost, status) {
  if (cost.quoted === 0 && !cost.charged) return 'free';
  return `quoted ${money(cost.quoted)}, ${chargeWords(cost, status)}`;
}

function chargeWords({ charged, charge_is_estimate: estimated }, status) {
  if (charged === 0) return 'nothing was charged';
  if (charged !== null) return estimated ? `charged about ${money(charged)}, the provider reports no charge` : `charged ${money(charged)}`;
  if (status === 'done') return 'the charge is not known yet';
  return ['partial', 'failed', 'cancelled', 'uncertain'].includes(status) ? 'it may have been charged' : 'not charged yet';
}

// Show the assistant's call before its result arrives, or the result of a dry run.
function showAsking(quote = null) {
  if (current && !quote) return;
  const input = toolInput ?? {};
  if (input.job_id && !quote) return replaceView('asking', h('p', { className: 'dim' }, `Looking for ${input.job_id}…`));
  const steps = input.steps?.length ?? 1;
  const requested = quote?.requested ?? (input.steps ? [input.images ?? []].flat().length * steps : Number(input.count ?? 1));
  const result = { job_id: null, status: quote ? 'dry run' : 'asking', images: [], requested, returned: 0, warnings: quote?.warnings ?? [],
    provider: quote?.provider ?? '', model: quote?.model ?? '', cost: quote?.cost ?? null, error: null };
  $('page').setAttribute('aria-busy', 'false');
  drawJob({ result, making: null, input });
}

function drawJob(job) {
  const { result } = job;
  const key = `job ${result.job_id} ${result.requested} ${isChain(job)} ${stepsOf(job)} ${isTable(job)}`;
  if (drawn.key !== key) buildJob(job, key);
  drawn.update(job);
}

function buildJob(job, key) {
  const title = h('h1', { id: 'title', tabIndex: -1 });
  const chip = h('span'), facts = h('span', { className: 'dim small', id: 'facts', role: 'status' });
  const bar = h('progress', { 'aria-label': 'Images that came' });
  const notices = h('div', { className: 'stack', id: 'notices' });
  const panel = h('div', { id: 'panel' });
  const id = job.result.job_id;
  const buttons = {
    refresh: h('button', { onclick: () => whileDisabled(buttons.refresh, () => refresh(id)) }, 'Refresh'),
    cancel: confirmButton('Cancel the job', 'Really cancel?', () => cancel(id)),
    save: formButton(panel, 'save-all', 'Save all…', () => saveForm(savedOf(jobs.get(id)), panel)),
    compare: formButton(panel, 'compare', 'Compare with other models…', () => compareForm({ ...comparedCall(jobs.get(id)), beside: id, panel })),
    full: h('button', { onclick: toggleFull, id: 'full' }, 'Full screen'),
  };
  const table = isTable(job) ? buildTable(job.table ??= { filter: 'all', drawn: 0 }) : null;
  const grid = table ? null : h('div', { id: 'grid', role: 'group', 'aria-label': 'Images', onkeydown: moveFocus });
  const look = h('div', { id: 'job-look' });
  const tiles = new Map();
  let noticesKey = '';
  const atTitle = document.activeElement?.id === 'title';
  replaceView(key,
    h('div', { className: 'stack' },
      h('div', { className: 'stack' }, title, h('div', { className: 'row' }, chip, facts)),
      bar,
      h('div', { className: 'row' }, buttons.refresh, buttons.cancel, buttons.save, buttons.compare, h('span', { className: 'row far' }, recentJobsButton(), buttons.full)),
      notices, panel, look, table?.element ?? grid));
  if (atTitle) title.focus();
  drawn.update = (now) => {
    const { result } = now;
    title.textContent = promptsOf(now).join(' → ') || result.job_id || 'A dry run';
    chip.replaceChildren(statusChip(result.status));
    facts.textContent = [
      `${result.returned} of ${plural(result.requested, 'image')}`,
      result.model && (result.model === result.provider ? result.model : `${result.model} on ${result.provider}`),
      result.cost && costWords(result.cost, result.status), remainingWords(result), result.job_id,
    ].filter(Boolean).join(' · ');
    bar.max = Math.max(result.requested, 1);
    bar.value = result.returned;
    bar.hidden = !UNFINISHED.has(result.status);
    buttons.refresh.hidden = !id;
    buttons.cancel.hidden = !id || !UNFINISHED.has(result.status);
    buttons.save.hidden = !result.images.length;
    buttons.compare.hidden = !id || !comparedCall(now);
    buttons.full.hidden = !(host.context.availableDisplayModes ?? []).includes('fullscreen');
    const shownKey = JSON.stringify([result.status, result.error, result.warnings, Boolean(now.making), id && failuresOf(now)]);
    if (shownKey !== noticesKey) {
      noticesKey = shownKey;
      notices.replaceChildren(...noticesOf(now, panel));
    }
    if (now.making?.look && !look.childElementCount) look.append(lookBox(now.making.look));
    if (table) table.update(now);
    else drawGrid(grid, tiles, now);
  };
}

function remainingWords({ progress, status }) {
  const left = progress?.remaining_s;
  if (!UNFINISHED.has(status) || !Number.isFinite(left)) return null;
  return left < 90 ? `about ${Math.max(Math.round(left / 5) * 5, 5)} s left` : `about ${Math.round(left / 60)} min left`;
}

function lookBox({ name, version, words, images }) {
  return h('section', { className: 'notice look-box', 'aria-label': `Look ${name}` },
    h('div', {}, h('b', {}, `Look ${name}`), h('span', { className: 'dim' }, `, version ${version}`), words && h('div', {}, clipped(words, 240))),
    images.length > 0 && thumbButtons(images));
}

// The choices for saving a job: the last images of a chain by the job's id, or every image.
function savedOf({ result, making }) {
  const final = { words: 'the final images', images: [result.job_id] };
  const every = { words: plural(result.images.length, 'image'), images: result.images.map((image) => image.handle) };
  return (making?.prompts.length ?? 1) > 1 ? [final, { ...every, words: `every image, ${result.images.length}` }] : [{ ...every, images: [result.job_id] }];
}

// Return the reasons of a job's failed requests, each with its number; the most frequent first.
function failuresOf({ making }) {
  const reasons = new Map();
  for (const { state, reason } of making?.requests ?? [])
    if (LOST.has(state)) reasons.set(reason ?? '', (reasons.get(reason ?? '') ?? 0) + 1);
  return [...reasons].sort((a, b) => b[1] - a[1]);
}

function failedNotice(job, panel, free) {
  const { job_id, next } = job.result, reasons = failuresOf(job);
  if (!isChain(job) || !reasons.length) return null;
  // If something can be made again now, `next` has the call.
  const again = next?.includes(`${job_id}/failed`) && formButton(panel, 'retry', 'Make the failed ones again…', () => paidForm({
    title: 'Make the failed ones again', tool: 'edit_chain', args: () => ({ images: [`${job_id}/failed`] }), panel, made: `what failed in ${job_id}`,
  }));
  const all = reasons.reduce((sum, [, number]) => sum + number, 0);
  return h('div', { className: 'notice bad stack', id: 'failures' },
    h('h2', {}, `${all} of ${plural(job.making.requests.length, 'request')} did not succeed`),
    h('ul', {}, ...reasons.slice(0, 5).map(([reason, number]) => h('li', {}, `${number} × `, clipped(reason || 'cancelled', 160)))),
    reasons.length > 5 ? h('p', { className: 'dim' }, `and ${plural(reasons.length - 5, 'other reason')}, each in its row`) : null,
    free && h('p', {}, free),
    again && h('p', { className: 'dim' }, 'Only these are made and paid again; what succeeded stays.'),
    again && h('div', { className: 'row' }, again));
}

function noticesOf(job, panel) {
  const { result } = job;
  const found = [];
  if (result.status === 'uncertain') {
    const again = h('button', { id: 'pay-again', disabled: !wholeCall(job), onclick: () => {
      const { tool, args } = wholeCall(job);
      showPanel(panel, paidForm({ title: 'Pay for a new one', tool, args: () => ({ ...args, again: true }), panel, made: `again, for ${result.job_id}` }), again);
    } }, 'Pay for a new one…');
    const look = h('button', { onclick: () => whileDisabled(look, () => refresh(result.job_id, 30)) }, 'Look again');
    found.push(h('div', { className: 'notice care stack', id: 'uncertain' },
      h('h2', {}, 'This may have been paid, and its answer was lost'),
      result.error && h('p', { className: 'words' }, result.error.message),
      h('p', { className: 'dim' }, 'Looking again is free. Accepting it as lost ends the job; it may still be charged. A new one is paid for anew.'),
      h('div', { className: 'row' }, look, confirmButton('Accept it as lost', 'Really give it up?', () => cancel(result.job_id)), again)));
  } else if (result.error) {
    const free = ['deadline', 'fetch_failed'].includes(result.error.kind) ? 'Refresh looks again, free of charge.' : '';
    found.push(failedNotice(job, panel, free) ?? h('div', { className: 'notice bad words' }, h('b', {}, `${result.error.kind}: `), result.error.message, ' ', free));
  }
  for (const warning of result.warnings) found.push(h('p', { className: 'notice care words' }, warning));
  return found;
}

const MOST_PLACEHOLDERS = 48;
function drawGrid(grid, tiles, job) {
  const all = job.making ? places(job) : places(job).slice(0, MOST_PLACEHOLDERS), chain = isChain(job), prompts = promptsOf(job);
  const sized = job.result.images.find((image) => image.width);
  grid.style.setProperty('--shape', sized ? `${sized.width} / ${sized.height}` : '1');
  if (!grid.childElementCount) grid.className = chain ? 'lanes' : 'grid';
  grid.style.setProperty('--many', all.length);
  for (const place of all) {
    const state = place.image ? 'here' : place.label;
    const old = tiles.get(place.n);
    if (old?.state === state && old.url === place.image?.url && old.path === place.image?.path) continue;
    const element = tile(job, place, chain ? prompts[place.step] : '');
    tiles.set(place.n, { element, state, url: place.image?.url, path: place.image?.path });
    if (old) {
      const focused = old.element === document.activeElement;
      old.element.replaceWith(element);
      if (focused) element.focus();
    } else if (chain) {
      let lane = grid.children[place.lane];
      if (!lane) {
        lane = h('div', { className: 'lane', role: 'group', 'aria-label': `Lane ${place.lane + 1}` });
        grid.append(lane);
      }
      lane.append(element);
    } else grid.append(element);
  }
  if (chain) for (const [number, lane] of [...grid.children].entries()) {
    const source = job.making?.lanes[number]?.[0] ?? [job.input?.images ?? []].flat()[number];
    if (!source || lane.dataset.source === source) continue;
    if (lane.dataset.source) lane.firstElementChild.replaceWith(sourceTile(source));
    else lane.prepend(sourceTile(source));
    lane.dataset.source = source;
  }
  enter(grid);
}

function tile(job, place, words) {
  const name = `Image ${place.n}`;
  const caption = h('span', { className: 'caption' },
    h('b', {}, isChain(job) ? `Step ${place.step + 1}` : String(place.n)),
    words ? h('span', { className: 'dim', title: words }, words) : null,
    place.image?.width ? h('span', { className: 'dim' }, `${place.image.width} × ${place.image.height}`) : null);
  if (place.image) {
    return h('button', { className: 'tile', type: 'button', tabIndex: -1, 'data-handle': place.image.handle,
      'aria-label': `${name}${words ? `: ${words}` : ''}, open`, onclick: () => openImage(place.image.handle) },
    picture(place.image.handle, '', 'not here yet'), caption);
  }
  return h('div', { className: `tile ${place.lost ? 'lost' : 'coming'}`, role: 'img', 'aria-label': `${name}, ${place.label}` },
    h('span', { className: 'face' }, h('span', {}, place.label)), caption);
}

function sourceTile(source) {
  const known = /^(img|job)_/.test(source);
  const caption = h('span', { className: 'caption' }, h('b', {}, 'Before'), h('span', { className: 'dim' }, source.split(/[\\/]/).slice(known ? 0 : -1).join('/')));
  if (!known) return h('div', { className: 'tile' }, h('span', { className: 'face' }, h('span', {}, 'before')), caption);
  return h('button', { className: 'tile', type: 'button', tabIndex: -1, 'data-handle': source, 'aria-label': `Before: ${source}, open`,
    onclick: () => openImage(source) }, picture(source, '', 'before'), caption);
}

// Arrow keys move the focus among the tiles; Tab leaves them.
function moveFocus(event) {
  const all = [...event.currentTarget.querySelectorAll('button.tile, button.job')];
  const at = all.indexOf(event.target);
  if (at < 0) return;
  const box = event.target.getBoundingClientRect();
  const below = (sign) => all
    .map((button) => ({ button, there: button.getBoundingClientRect() }))
    .filter(({ there }) => sign * (there.top - box.top) > 8)
    .sort((a, b) => sign * (a.there.top - b.there.top) || Math.abs(a.there.left - box.left) - Math.abs(b.there.left - box.left))[0]?.button;
  const to = {
    ArrowRight: () => all[at + 1], ArrowLeft: () => all[at - 1], Home: () => all[0], End: () => all.at(-1),
    ArrowDown: () => below(1), ArrowUp: () => below(-1),
  }[event.key]?.();
  if (event.key in { ArrowRight: 1, ArrowLeft: 1, ArrowUp: 1, ArrowDown: 1, Home: 1, End: 1 }) event.preventDefault();
  if (!to) return;
  for (const button of all) button.tabIndex = button === to ? 0 : -1;
  to.focus();
}

