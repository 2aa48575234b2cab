// The view of one image: its source beside it, the images that it was made from, and its buttons.

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
  const step = job && isChain(job) ? promptsOf(job)[places(job).find((p) => p.n === numberOf(handle))?.step] : promptsOf(job)[0];
  // The server alone knows the instruction with the values of its row, and with the words of the look.
  const facts = job?.making?.is_table || job?.making?.look ? (await preview(handle))?.facts : null;
  const words = facts?.prompt || step;
  if (shownHandle !== handle) return;
  const redo = job && redoCall(job, handle, facts?.sent || words);
  const redoButton = redo && formButton(panel, 'redo', 'Redo this image…', () => paidForm({
    title: 'Redo this image', tool: redo.tool, prompt: redo.prompt, args: (text) => ({ ...redo.args(text), again: true }), panel, made: `a redo of ${handle}`,
  }));
  const editButton = formButton(panel, 'edit', 'Edit from here…', () => paidForm({
    title: 'Edit from here', tool: 'edit_sequence', prompt: '', counted: true, withLook: true, panel, made: `an edit of ${handle}`,
    args: (text, count, look) => ({
      images: [handle, ...look], prompt: text, count, ...(job && { provider: job.result.provider }),
      ...(job && job.making?.tool !== 'generate_sequence' && { model: job.result.model }),
    }),
  }));
  const saveButton = formButton(panel, 'save', 'Save…', () => saveForm([{ words: '1 image', images: [handle] }], panel));
  const lookButton = formButton(panel, 'keep-look', 'Keep as a look…', () => keepAsLookForm(handle, panel));
  const compareButton = redo && formButton(panel, 'compare', 'Compare with other models…', () => compareForm({
    tool: redo.tool, args: othersArgs(redo.args(redo.prompt), job.making), operation: operationOf(redo.tool), beside: handle, panel }));
  const link = isWeb(image.url);
  replaceView(`image ${handle}`, h('div', { className: 'stack', onkeydown: (event) => { if (event.key === 'Escape') closeImage(); } },
    h('div', { className: 'row' },
      h('button', { type: 'button', id: 'back', onclick: () => closeImage() }, compared ? '← Comparison' : job ? '← All images' : '← Back'),
      h('b', {}, handle),
      siblings.length > 1 ? h('span', { className: 'row far' }, beside(at - 1, 'Previous'), beside(at + 1, 'Next')) : null),
    h('div', { className: 'look' },
      h('div', { className: 'stack' }, stage, picker),
      h('div', { className: 'stack' },
        words && job ? h('p', { className: 'words', id: 'words' }, words) : null,
        h('div', { className: 'row' }, redoButton, editButton, saveButton, lookButton, compareButton),
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
  if (compared) return showComparison(compared, { push });
  const job = jobs.get(current);
  if (!job) return showJobs();
  setAddress(current, push);
  if (job.table) job.table.drawn = Math.max(job.table.drawn, (places(job).find((p) => p.image?.handle === handle)?.lane ?? 0) + 1);
  drawJob(job);
  const tiles = [...document.querySelectorAll('#grid button.tile')];
  const to = tiles.find((button) => button.dataset.handle === handle) ?? tiles[0];
  for (const button of tiles) button.tabIndex = button === to ? 0 : -1;
  to?.focus();
}

