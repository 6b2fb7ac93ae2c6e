"use strict";
// The form's button asks the browser for a passkey, and the form takes the answer to the server, as JSON (WebAuthn §5.1.8,
// §5.1.9). Options with a user make a passkey, others use one. They are in the form, or at an address that gives fresh ones: then
// passkeys are also offered where the user name is typed, as long as nobody has pressed the button.

const form = document.querySelector("form[data-options], form[data-begin]");
const renewed = 4 * 60 * 1000; // before the challenge is five minutes old

const decode = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), char => char.charCodeAt(0));
const encode = bytes => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const named = list => (list ?? []).map(credential => ({ ...credential, id: decode(credential.id) }));

let texts = {};
let asked = 0; // questions; only the last one waits for an answer
let waiting = null;

async function begin() {
  if (!form.dataset.begin) return { options: JSON.parse(form.dataset.options), state: form.elements.state.value };
  const answer = await fetch(form.dataset.begin, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error("no challenge");
  return answer.json();
}

function ask(wanted, more) {
  const options = { ...wanted, challenge: decode(wanted.challenge) };
  if (!wanted.user) return navigator.credentials.get({ ...more, publicKey: { ...options, allowCredentials: named(wanted.allowCredentials) } });
  const user = { ...wanted.user, id: decode(wanted.user.id) };
  return navigator.credentials.create({ ...more, publicKey: { ...options, user, excludeCredentials: named(wanted.excludeCredentials) } });
}

function answered(credential) {
  const { id, type, authenticatorAttachment, rawId, response } = credential;
  const said = { clientDataJSON: encode(response.clientDataJSON) };
  if (response.attestationObject) {
    said.attestationObject = encode(response.attestationObject);
    said.transports = response.getTransports?.() ?? [];
  } else {
    said.authenticatorData = encode(response.authenticatorData);
    said.signature = encode(response.signature);
    if (response.userHandle) said.userHandle = encode(response.userHandle);
  }
  return { id, type, authenticatorAttachment, rawId: encode(rawId), clientExtensionResults: {}, response: said };
}

async function usePasskey(more = {}) {
  const mine = ++asked;
  const begun = await begin();
  if (mine !== asked) return;
  texts = begun.options.texts;
  waiting?.abort();
  const question = waiting = new AbortController();
  const credential = await ask(begun.options.publicKey, { ...more, signal: question.signal });
  form.elements.state.value = begun.state;
  form.elements.response.value = JSON.stringify(answered(credential));
  HTMLFormElement.prototype.submit.call(form);
}

function say(text) {
  form.querySelector("#problem")?.remove(); // what went wrong the last time
  let problem = form.querySelector("#passkey_problem");
  if (!problem) {
    problem = document.createElement("p");
    Object.assign(problem, { id: "passkey_problem", className: "problem" });
    problem.setAttribute("role", "alert");
    form.querySelector("p").before(problem);
  }
  problem.textContent = text ?? "";
  problem.hidden = !text;
}

function failed(error) {
  if (error.name === "AbortError") return; // another question has taken its place
  say({ NotAllowedError: texts.cancelled, InvalidStateError: texts.there }[error.name] ?? texts.failed);
}

form.addEventListener("submit", event => {
  event.preventDefault();
  say();
  usePasskey().catch(failed);
});

async function offer() {
  const button = form.querySelector("button");
  if (!window.PublicKeyCredential) {
    button.disabled = true;
    if (!form.dataset.begin) say(JSON.parse(form.dataset.options).texts.unsupported);
    return;
  }
  form.hidden = false;
  if (!form.dataset.begin || !await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
  const whereTyped = () => usePasskey({ mediation: "conditional" }).catch(() => {});
  const again = setInterval(whereTyped, renewed);
  form.addEventListener("submit", () => clearInterval(again));
  whereTyped();
}

offer();
