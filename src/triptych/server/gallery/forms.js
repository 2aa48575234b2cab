// Buttons and forms. A paid call shows its price first, and needs a second click.

// -- buttons and panels -----------------------------------------------------------------------------------------------

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

// A button that opens a form in the panel: `build` returns the form.
function formButton(panel, id, words, build) {
  const button = h('button', { type: 'button', id, onclick: () => showPanel(panel, build(), button) }, words);
  return button;
}

function showPanel(panel, form, opener) {
  form.opener = opener;
  panel.replaceChildren(form);
  (form.querySelector('textarea, input, select') ?? form.querySelector('button')).focus();
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
    if (event.key === 'Enter' && event.target.matches('input:not([type=checkbox])')) { event.preventDefault(); button.click(); }
  } }, h('h2', {}, title), ...children);
  button.addEventListener('click', () => {
    if ([...form.querySelectorAll('input, textarea')].every((field) => field.reportValidity())) work();
  });
  return form;
}
function panelButtons(panel, button) {
  return h('div', { className: 'row' }, button, h('button', { type: 'button', onclick: () => closePanel(panel) }, 'Not now'));
}

// -- paying -----------------------------------------------------------------------------------------------------------

const LOST_ANSWER = 'The answer was lost, and it may have been paid for. Look among the recent jobs before asking again.';
const offerName = ({ model, provider }) => (model === provider ? model : `${model} on ${provider}`);

// The first click shows the price, the second pays. The price shown is the most that the call may cost.
function paidForm({ title, tool, prompt, counted = false, withLook = false, args, panel, made }) {
  const words = prompt === undefined ? null : h('textarea', { name: 'prompt', required: true, maxLength: 8000, value: prompt, oninput: () => forget() });
  const count = counted ? h('input', { type: 'number', name: 'count', min: 1, max: 14, value: 1, required: true, oninput: () => forget() }) : null;
  const look = withLook ? lookField({ oninput: () => forget() }) : null;
  const price = h('p', { role: 'status', id: 'price', className: 'words' });
  const most = h('input', { type: 'number', name: 'most', min: 0, step: 'any', oninput: () => {
    button.textContent = `Pay up to ${usd.format(Number(most.value))} and make it`;
  } });
  const mostLabel = h('label', { hidden: true }, 'Pay at most, in US dollars', most);
  const button = h('button', { type: 'button', className: 'main' }, 'Show the price');
  let quoted = null, lost = false;
  const forget = () => { if (lost) return; quoted = null; price.textContent = ''; mostLabel.hidden = true; button.textContent = 'Show the price'; };
  const asked = () => args(words?.value.trim(), count ? Number(count.value) : undefined, look?.items() ?? []);
  const work = async () => {
    button.disabled = true;
    try {
      if (quoted === null) {
        const result = (await call(tool, { ...asked(), dry_run: true })).structuredContent;
        quoted = result.cost.quoted;
        price.textContent = [
          `${quoted === 0 ? 'It is free' : `It costs ${money(quoted)}`}, with ${offerName(result)}, for ${plural(result.requested, 'image')}. Nothing was sent yet.`,
          ...result.warnings.filter((warning) => !warning.startsWith('A dry run')),
        ].join('\n');
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
      price.textContent = lost ? LOST_ANSWER : error.message;
      button.hidden = lost;
      if (lost) button.after(recentJobsButton());
    } finally { button.disabled = false; }
  };
  return panelForm(panel, title, button, work,
    words && h('label', {}, title.startsWith('Edit') ? 'What should change' : 'The instruction', words),
    count && h('label', {}, 'How many images, 1 to 14', count),
    look, price, mostLabel, panelButtons(panel, button));
}

// -- looks ------------------------------------------------------------------------------------------------------------

// A field for the name of a look, with the names of those that there are.
function lookField({ oninput, label = 'In a look (optional)', required = false }) {
  const input = h('input', { name: 'look', required, list: 'looks', spellcheck: false, autocomplete: 'off', maxLength: 100, oninput,
    placeholder: required ? '' : 'the name of a look' });
  const names = h('datalist', { id: 'looks' });
  looks().then((found) => names.append(...found.map(({ name, words }) => h('option', { value: name, label: words }))));
  const field = h('label', {}, label, input, names);
  field.named = () => input.value.trim().replace(/^look:/, '');
  field.items = () => (field.named() ? [`look:${field.named()}`] : []);
  return field;
}
async function looks() {
  try {
    return JSON.parse((await request('resources/read', { uri: 'triptych://looks' })).contents[0].text).looks ?? [];
  } catch { return []; }  // Some hosts forward no resources: the name is typed then.
}

function keepAsLookForm(handle, panel) {
  const name = lookField({ label: 'Name of the look', required: true });
  const words = h('textarea', { name: 'words', maxLength: 4000, placeholder: 'such as: soft light from the left, muted colours' });
  const outcome = h('p', { role: 'status', className: 'words small' });
  const button = h('button', { type: 'button', className: 'main' }, 'Keep as a look');
  const work = async () => {
    button.disabled = true;
    try {
      const args = { images: [handle], look: name.named(), ...(words.value.trim() && { words: words.value.trim() }) };
      const { look, warnings } = (await call('upload_images', args)).structuredContent;
      outcome.textContent = [`${look}. Jobs made before keep the version that they used.`, ...warnings].join('\n');
      tellAssistant(`In the gallery the user stored ${handle} as look:${name.named()}.`);
    } catch (error) { outcome.textContent = error.message; } finally { button.disabled = false; }
  };
  return panelForm(panel, 'Keep as a look', button, work, name, h('label', {}, 'Its words, added to every request (optional)', words), outcome,
    panelButtons(panel, button));
}

// -- saving -----------------------------------------------------------------------------------------------------------

const MOST_PATHS = 8;
let lastDirectory = '';

// `choices`: each with its words and the items for the call; the first is chosen.
function saveForm(choices, panel) {
  const field = (name, props) => h('input', { name, spellcheck: false, autocomplete: 'off', ...props });
  const what = h('select', { name: 'what' }, ...choices.map(({ words }, i) => h('option', { value: i }, words)));
  const directory = field('directory', { required: true, value: lastDirectory, placeholder: 'a directory the server may write to, or one ending in .zip' });
  const name = field('name', { placeholder: 'the handles' });
  const size = field('size', { placeholder: '1080x1080, contain 800x600 white' });
  const format = h('select', { name: 'format' }, h('option', { value: '' }, 'as they are'), ...['png', 'jpeg', 'webp'].map((kind) => h('option', { value: kind }, kind)));
  const outcome = h('p', { role: 'status', className: 'words small', id: 'saved' });
  const button = h('button', { type: 'button', className: 'main' });
  const label = () => { button.textContent = choices.length > 1 ? 'Save them' : `Save ${choices[0].words}`; };
  label();
  const work = async () => {
    button.disabled = true;
    outcome.textContent = 'Saving…';
    try {
      lastDirectory = directory.value.trim();
      const optional = Object.fromEntries([name, size, format].map((input) => [input.name, input.value.trim()]).filter(([, value]) => value));
      const answer = await call('save_images', { images: choices[Number(what.value)].images, directory: lastDirectory, ...optional });
      outcome.textContent = savedWords(answer.structuredContent);
    } catch (error) { outcome.textContent = error.message; } finally { button.disabled = false; }
  };
  return panelForm(panel, 'Save at full size', button, work,
    choices.length > 1 && h('label', {}, 'What', what),
    h('label', {}, 'Directory, on the server’s machine', directory),
    h('div', { className: 'fields' },
      h('label', {}, 'File name, numbered if there are several (optional)', name),
      h('label', {}, 'Sizes (optional)', size), h('label', {}, 'Format', format)),
    outcome, panelButtons(panel, button));
}

function savedWords({ saved, count, archive, manifests = [], directory, warnings }) {
  const shown = saved.slice(0, saved.length > MOST_PATHS + 1 ? MOST_PATHS : saved.length);
  const more = count - shown.length;
  return [
    archive && `Saved: ${archive}, with ${plural(count, 'file')}`,
    ...(archive ? [shown.map(({ path }) => path).join(', ')] : shown.map(({ path }) => `Saved: ${path}`)),
    more > 0 && `and ${more} more${archive ? '' : ` in ${directory}`}`,
    ...manifests.map((path) => `The values of the rows: ${path}`), ...warnings,
  ].filter(Boolean).join('\n');
}
