// -- previews ---------------------------------------------------------------------------------------------------------

const previews = new Map();  // handle → promise of { src, facts } or null
const turnstile = { free: PREVIEWS_AT_ONCE, queue: [] };

async function inTurn(work) {
  if (turnstile.free > 0) turnstile.free--;
  else await new Promise((resolve) => turnstile.queue.push(resolve));
  try { return await work(); } finally {
    const next = turnstile.queue.shift();
    if (next) next(); else turnstile.free++;
  }
}

function preview(handle) {
  let found = previews.get(handle);
  if (!found) {
    found = inTurn(() => readPreview(handle));
    found.then((read) => { if (!read) previews.delete(handle); });
  }
  previews.delete(handle);
  previews.set(handle, found);
  if (previews.size > PREVIEWS_KEPT) previews.delete(previews.keys().next().value);
  return found;
}

async function readPreview(handle) {
  const src = (type, data) => (/^image\/(jpeg|png|webp)$/.test(type) ? `data:${type};base64,${data}` : null);
  try {
    const [read] = (await request('resources/read', { uri: `triptych://images/${handle}` })).contents;
    return { src: src(read.mimeType, read.blob), facts: read._meta ?? {} };
  } catch {
    // A host that does not pass resources on still passes tools on.
    try {
      const image = (await call('view_images', { images: [handle] })).content.find((c) => c.type === 'image');
      return image ? { src: src(image.mimeType, image.data), facts: {} } : null;
    } catch { return null; }
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    seen.unobserve(entry.target);
    entry.target.fill?.();
  }
}, { rootMargin: '300px' });

function picture(handle, alt, missing = 'no preview') {
  const face = h('span', { className: 'face' });
  face.fill = async () => {
    const found = await preview(handle);
    face.replaceChildren(found?.src ? h('img', { src: found.src, alt, draggable: false }) : h('span', {}, missing));
  };
  seen.observe(face);
  return face;
}
const thumb = (handle, alt = '') => { const face = picture(handle, alt, '–'); face.className = 'thumb'; return face; };

// -- what is known ----------------------------------------------------------------------------------------------------

const jobs = new Map();  // id → { result, making }
let current = null;      // the job shown
let shownHandle = null;  // the image shown, if one is
let toolInput = null;    // what the assistant's call was given
let turn = 0;            // following stops when this moves on

const isJob = (value) => value && typeof value.job_id === 'string' && Array.isArray(value.images);
const jobOf = (handle) => (handle.includes('/') ? handle.split('/')[0] : null);
const numberOf = (handle) => Number(handle.split('/')[1]);

function takeToolResult(answer) {
  const result = answer.structuredContent;
  if (answer.isError || !result) {
    current = null;
    $('view').replaceChildren(h('p', { className: 'notice bad words' }, textOf(answer) || 'There is no result.'), moreJobs());
    return;
  }
  if (result.status === 'dry_run') {
    showAsking({ ...result, job_id: null });
    return;
  }
  if (isJob(result)) take(result, { show: true, input: toolInput && !('job_id' in toolInput) ? toolInput : null });
}

// Keep what a tool said of a job, and read the whole of it when it has moved.
async function take(result, { show = false, input = null } = {}) {
  const id = result.job_id;
  const before = jobs.get(id);
  const moved = !before?.making || before.result.status !== result.status || before.result.returned !== result.returned;
  const job = before ?? { making: null, input };
  job.result = before && !moved ? { ...result, images: before.result.images } : mergeImages(before?.result, result);
  jobs.set(id, job);
  if (show) { current = id; shownHandle = null; }
  draw();
  if (moved) await (job.whole = readWhole(job, result));
  if (show && current === id) follow(id);
  return job;
}

// A tool lists no images while the job runs, and then one page of them; the job's resource has all that came.
async function readWhole(job, { job_id, warnings, page }) {
  try {
    await readResource(job, job_id, warnings);
  } catch {
    // A host that does not pass resources on still passes tools on.
    try {
      for (let number = 2; number <= (page?.of ?? 1); number++)
        job.result = mergeImages(job.result, (await call('get_status', { job_id, page: number })).structuredContent);
    } catch { /* what the tool said is shown as it is */ }
  }
  draw();
}
async function readResource(job, id, warnings = []) {
  const [read] = (await request('resources/read', { uri: `triptych://jobs/${id}` })).contents;
  const whole = JSON.parse(read.text);
  job.result = { ...whole, warnings: [...new Set([...whole.warnings, ...warnings])] };
  job.making = read._meta?.making ?? job.making;
}
function mergeImages(old, fresh) {
  const handles = new Set(fresh.images.map((image) => image.handle));
  return { ...fresh, images: [...(old?.images ?? []).filter((image) => !handles.has(image.handle)), ...fresh.images] };
}

async function load(id) {
  return jobs.get(id) ?? take((await call('get_status', { job_id: id, wait_s: 0 })).structuredContent);
}

function stopFollowing() { turn++; }

// Look how the job is until it has ended: bounded in number, in pace, and in failures.
async function follow(id) {
  const mine = ++turn;
  let failures = 0;
  for (let looks = 0; looks < LOOKS_MOST; looks++) {
    const job = jobs.get(id);
    if (!UNFINISHED.has(job.result.status)) return;
    const gap = LOOK_GAP_MS + GAP_PER_IMAGE_MS * job.result.returned;
    await new Promise((resolve) => setTimeout(resolve, gap * 2 ** failures));
    await whenVisible();
    if (mine !== turn) return;
    try {
      try {
        await readResource(job, id);
        draw();
      } catch {
        const answer = await call('get_status', { job_id: id, wait_s: STATUS_WAIT_S });
        if (mine === turn) await take(answer.structuredContent);
      }
      failures = 0;
    } catch (error) {
      if (mine !== turn) return;
      if (++failures >= FAILURES_MOST) {
        say(`The gallery stopped asking: ${error.message} The job goes on; Refresh asks again.`, 'care');
        return;
      }
    }
    if (mine !== turn) return;
  }
  say('This takes long. The job goes on; Refresh asks again.', 'care');
}
const whenVisible = () => (document.visibilityState === 'visible' ? null : new Promise((resolve) =>
  document.addEventListener('visibilitychange', resolve, { once: true })));

// Where each image of a job stands, in order: those that came, those to come, those that will not.
function places(job) {
  const { result, making } = job;
  const images = new Map(result.images.map((image) => [numberOf(image.handle), image]));
  const steps = stepsOf(job);
  const found = [];
  const add = (n, lane, step, state) => {
    const lost = LOST.has(state) || !UNFINISHED.has(result.status);
    const unknown = (state || result.status) === 'uncertain';
    found.push({ n, lane, step, image: images.get(n) ?? null, lost, waits: unknown ? 'not known' : lost ? 'did not come' : 'still to come' });
  };
  if (making?.requests.length)
    for (const r of making.requests) for (let i = 0; i < r.count; i++) add(r.first_output + i, r.lane, r.step, r.state);
  else for (let n = 1; n <= result.requested; n++) add(n, Math.floor((n - 1) / steps), (n - 1) % steps, '');
  return found.sort((a, b) => a.n - b.n);
}
function isChain(job) { return (job.making?.tool ?? toolOf(job.input)) === 'edit_chain'; }
function stepsOf(job) { return isChain(job) ? (job.making?.prompts ?? job.input?.steps ?? ['']).length : 1; }
function toolOf(input) { return !input ? null : input.steps ? 'edit_chain' : input.images ? 'edit_sequence' : 'generate_sequence'; }
function promptsOf(job) {
  if (job?.making) return job.making.prompts;
  const words = job?.input?.steps ?? job?.input?.prompt;
  return words ? [words].flat() : [];
}

// The arguments that ask for the whole job once more.
function wholeCall(job) {
  const { making, result } = job;
  if (!making) {
    const tool = toolOf(job.input);
    if (!tool) return null;
    const { wait_s, dry_run, again, max_cost_usd, ...args } = job.input;
    return { tool, args };
  }
  const sizes = [...new Set(making.requests.map((r) => r.size))];
  const args = { model: result.model, provider: result.provider };
  if (making.format) args.format = making.format;
  if (sizes.length === 1 && sizes[0]) args.size = sizes[0];
  if (making.tool === 'edit_chain') {
    const references = making.lanes[0].slice(1);
    Object.assign(args, { images: making.lanes.map((lane) => lane[0]), steps: making.prompts, ...(references.length && { references }) });
  } else {
    Object.assign(args, { prompt: making.prompts[0], count: making.requests[0].count, ...(making.lanes[0].length && { images: making.lanes[0] }) });
  }
  return { tool: making.tool, args };
}

// The arguments that ask for one image of a job once more; its neighbours keep the look of a set.
function redoCall(job, handle) {
  const whole = wholeCall(job);
  if (!whole || !job.making) return null;
  const n = numberOf(handle), source = job.result.images.find((image) => image.handle === handle)?.source ?? [];
  const place = places(job).find((p) => p.n === n);
  const { images, steps, references, count, prompt, size, ...args } = whole.args;
  const request = job.making.requests.find((r) => r.lane === place.lane && r.step === place.step);
  if (request.size) args.size = request.size;
  if (whole.tool === 'edit_chain') {
    const shared = source.slice(1);
    return { tool: 'edit_chain', prompt: steps[place.step],
      args: (words) => ({ ...args, images: source.slice(0, 1), steps: [words], ...(shared.length && { references: shared }) }) };
  }
  if (count === 1) {
    return { tool: whole.tool, prompt, args: (words) => ({ ...args, ...(images && { images }), prompt: words, count: 1 }) };
  }
  const neighbours = job.result.images.map((image) => image.handle)
    .filter((other) => other !== handle && Math.abs(numberOf(other) - n) <= (n === 1 || n === count ? 2 : 1)).slice(0, 2);
  const given = [...(images ?? []), ...neighbours].slice(0, 14);
  const words = `Only image ${n} of this set of ${count}, again${neighbours.length ? ', in the look of the others' : ''}. The set: ${prompt}`;
  if (!given.length) return { tool: 'generate_sequence', prompt: words, args: (text) => ({ ...args, prompt: text, count: 1 }) };
  // A model that only generates cannot take neighbours: then the provider's own choice edits.
  if (!images) delete args.model;
  return { tool: 'edit_sequence', prompt: words, args: (text) => ({ ...args, images: given, prompt: text, count: 1 }) };
}

