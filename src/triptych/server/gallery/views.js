// What the page shows: a job with its tiles, and one image with its source beside it.

// -- views ------------------------------------------------------------------------------------------------------------

let drawn = { key: null };  // what the view shows; an update replaces only the parts that changed

function draw() {
  $('page').setAttribute('aria-busy', 'false');
  const job = jobs.get(current);
  if (!job) return;
  if (shownHandle) { drawn.refresh?.(); return; }
  drawJob(job);
}

function replaceView(key, ...children) {
  drawn = { key };
  onScreen.disconnect();
  $('view').replaceChildren(...children);
  for (const face of $('view').querySelectorAll('.face, .thumb')) if (face.fill) onScreen.observe(face);
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
  const key = `job ${result.job_id} ${result.requested} ${isChain(job)} ${stepsOf(job)}`;
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
    save: h('button', { onclick: () => showPanel(panel, saveForm(jobs.get(id).result.images.map((i) => i.handle), panel), buttons.save) }, 'Save all…'),
    full: h('button', { onclick: toggleFull, id: 'full' }, 'Full screen'),
  };
  const grid = h('div', { id: 'grid', role: 'group', 'aria-label': 'Images', onkeydown: moveFocus });
  const tiles = new Map();
  let noticesKey = '';
  const atTitle = document.activeElement?.id === 'title';
  replaceView(key,
    h('div', { className: 'stack' },
      h('div', { className: 'stack' }, title, h('div', { className: 'row' }, chip, facts)),
      bar,
      h('div', { className: 'row' }, buttons.refresh, buttons.cancel, buttons.save, h('span', { className: 'row far' }, recentJobsButton(), buttons.full)),
      notices, panel, grid));
  if (atTitle) title.focus();
  drawn.update = (now) => {
    const { result } = now;
    title.textContent = promptsOf(now).join(' → ') || result.job_id || 'A dry run';
    chip.replaceChildren(statusChip(result.status));
    facts.textContent = [
      `${result.returned} of ${plural(result.requested, 'image')}`,
      result.model && (result.model === result.provider ? result.model : `${result.model} on ${result.provider}`),
      result.cost && costWords(result.cost, result.status), now.making?.look, result.job_id,
    ].filter(Boolean).join(' · ');
    bar.max = Math.max(result.requested, 1);
    bar.value = result.returned;
    bar.hidden = !UNFINISHED.has(result.status);
    buttons.refresh.hidden = !id;
    buttons.cancel.hidden = !id || !UNFINISHED.has(result.status);
    buttons.save.hidden = !result.images.length;
    buttons.full.hidden = !(host.context.availableDisplayModes ?? []).includes('fullscreen');
    const shownKey = JSON.stringify([result.status, result.error, result.warnings, Boolean(now.making)]);
    if (shownKey !== noticesKey) {
      noticesKey = shownKey;
      notices.replaceChildren(...noticesOf(now, panel));
    }
    drawGrid(grid, tiles, now);
  };
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
    const late = ['deadline', 'fetch_failed'].includes(result.error.kind);
    found.push(h('div', { className: 'notice bad words' }, h('b', {}, `${result.error.kind}: `), result.error.message,
      late ? ' Refresh looks again, free of charge.' : ''));
  }
  for (const warning of result.warnings) found.push(h('p', { className: 'notice care words' }, warning));
  return found;
}

function drawGrid(grid, tiles, job) {
  const all = places(job), chain = isChain(job), prompts = promptsOf(job);
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
  const open = [...grid.querySelectorAll('button.tile')];
  if (open.length && !open.some((button) => button.tabIndex === 0)) open[0].tabIndex = 0;
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

// -- one image --------------------------------------------------------------------------------------------------------

async function openImage(handle, { push = true } = {}) {
  const owner = jobOf(handle);
  if (owner && owner !== current) {
    try { await load(owner); } catch (error) { return showNotice(error.message, 'bad'); }
    stopPolling();
    current = owner;
    poll(owner);
  }
  showNotice('');
  shownHandle = handle;
  setAddress(handle, push);
  const job = jobs.get(owner);
  if (!job?.making) await job?.loading;
  if (shownHandle !== handle) return;
  const image = job?.result.images.find((i) => i.handle === handle) ?? { handle, source: [] };
  const sources = image.source ?? [];
  const stage = h('div', { className: 'stage' }, h('span', { className: 'dim' }, 'loading…'));
  if (image.width) stage.style.setProperty('--shape', `${image.width} / ${image.height}`);
  const picker = sources.length > 1 ? h('div', { className: 'thumbs', role: 'group', 'aria-label': 'Compare with' }) : null;
  const compareWith = async (source) => {
    for (const button of picker?.children ?? []) button.toggleAttribute('aria-current', button.dataset.handle === source);
    const [after, before] = await Promise.all([preview(handle), source ? preview(source) : null]);
    if (shownHandle !== handle) return;
    if (!image.width && after?.facts.width) stage.style.setProperty('--shape', `${after.facts.width} / ${after.facts.height}`);
    fillStage(stage, handle, after, source, before);
    drawLineage(after?.facts.made_from_it);
  };
  if (picker) for (const source of sources) {
    picker.append(h('button', { type: 'button', 'data-handle': source, 'aria-label': `Compare with ${source}`, onclick: () => compareWith(source) },
      thumb(source), shortName(source)));
  }
  const panel = h('div', { id: 'panel' });
  const lineage = h('div', { className: 'stack', id: 'lineage' });
  let descendants = [];
  const drawLineage = (fresh) => {
    if (fresh) descendants = fresh;
    const inPage = [...jobs.values()].flatMap((j) => j.result.images).filter((i) => i.source?.includes(handle)).map((i) => i.handle);
    const after = [...new Set([...descendants, ...inPage])];
    const key = after.join();
    if (lineage.dataset.key === key) return;
    lineage.dataset.key = key;
    lineage.replaceChildren(
      ...(sources.length ? [h('h2', {}, 'Made from'), thumbButtons(sources)] : []),
      ...(after.length ? [h('h2', {}, 'Made from it'), thumbButtons(after)] : []));
  };
  const siblings = job ? job.result.images.map((i) => i.handle).sort((a, b) => numberOf(a) - numberOf(b)) : [];
  const at = siblings.indexOf(handle);
  const beside = (i, words) => h('button', { type: 'button', disabled: !siblings[i], onclick: () => openImage(siblings[i]) }, words);
  const redo = job && redoCall(job, handle);
  const redoButton = redo && h('button', { type: 'button', id: 'redo', onclick: () => showPanel(panel, paidForm({
    title: 'Redo this image', tool: redo.tool, prompt: redo.prompt, args: (words) => ({ ...redo.args(words), again: true }), panel, made: `a redo of ${handle}`,
  }), redoButton) }, 'Redo this image…');
  const editButton = h('button', { type: 'button', id: 'edit', onclick: () => showPanel(panel, paidForm({
    title: 'Edit from here', tool: 'edit_sequence', prompt: '', counted: true, panel, made: `an edit of ${handle}`,
    args: (words, count) => ({
      images: [handle], prompt: words, count, ...(job && { provider: job.result.provider }),
      ...(job && job.making?.tool !== 'generate_sequence' && { model: job.result.model }),
    }),
  }), editButton) }, 'Edit from here…');
  const saveButton = h('button', { type: 'button', id: 'save', onclick: () => showPanel(panel, saveForm([handle], panel), saveButton) }, 'Save…');
  const step = job && isChain(job) ? promptsOf(job)[places(job).find((p) => p.n === numberOf(handle))?.step] : promptsOf(job)[0];
  const link = isWeb(image.url);
  replaceView(`image ${handle}`, h('div', { className: 'stack', onkeydown: (event) => { if (event.key === 'Escape') closeImage(); } },
    h('div', { className: 'row' },
      h('button', { type: 'button', id: 'back', onclick: () => closeImage() }, job ? '← All images' : '← Back'),
      h('b', {}, handle),
      siblings.length > 1 ? h('span', { className: 'row far' }, beside(at - 1, 'Previous'), beside(at + 1, 'Next')) : null),
    h('div', { className: 'look' },
      h('div', { className: 'stack' }, stage, picker),
      h('div', { className: 'stack' },
        step && job ? h('p', { className: 'words', id: 'words' }, step) : null,
        h('div', { className: 'row' }, redoButton, editButton, saveButton),
        panel,
        h('p', { className: 'small dim words' }, [
          image.width && `${image.width} × ${image.height}`, image.mime_type,
          link && image.url_expires_at && `its link ends ${new Date(image.url_expires_at).toLocaleString()}`,
        ].filter(Boolean).join(' · ')),
        link ? h('div', {}, h('button', { type: 'button', className: 'link', id: 'open', onclick: () => openLink(image.url) }, 'Open the full image')) : null,
        image.path ? h('code', { id: 'path', className: 'dim' }, image.path) : null,
        lineage))));
  drawn.refresh = () => drawLineage();
  drawLineage();
  $('back').focus({ preventScroll: true });
  compareWith(sources[0] ?? null);
}

function thumbButtons(handles) {
  return h('div', { className: 'thumbs' }, ...handles.map((other) => h('button', { type: 'button', title: other, 'aria-label': `Open ${other}`, onclick: () => openImage(other) },
    thumb(other), shortName(other))));
}
const shortName = (handle) => (handle.includes('/') ? `…/${numberOf(handle)}` : 'upload');

function fillStage(stage, handle, after, source, before) {
  if (!after?.src) return stage.replaceChildren(h('span', { className: 'dim' }, 'There is no preview of it.'));
  const shown = h('img', { src: after.src, alt: handle, draggable: false });
  if (!before?.src) return stage.replaceChildren(shown);
  const slider = h('input', { type: 'range', min: 0, max: 100, value: 50, id: 'slider', 'aria-label': `Before (${source}) and after` });
  const move = () => {
    stage.style.setProperty('--at', `${slider.value}%`);
    slider.setAttribute('aria-valuetext', `${slider.value} % before`);
  };
  slider.addEventListener('input', move);
  stage.replaceChildren(shown, h('img', { className: 'before', src: before.src, alt: source, draggable: false }), h('span', { className: 'edge' }),
    h('span', { className: 'tag b' }, 'before'), h('span', { className: 'tag a' }, 'after'), slider);
  move();
}

function closeImage({ push = true } = {}) {
  const handle = shownHandle;
  shownHandle = null;
  const job = jobs.get(current);
  if (!job) return showJobs();
  setAddress(current, push);
  drawJob(job);
  const tiles = [...document.querySelectorAll('#grid button.tile')];
  const to = tiles.find((button) => button.dataset.handle === handle) ?? tiles[0];
  for (const button of tiles) button.tabIndex = button === to ? 0 : -1;
  to?.focus();
}

