// The customer's list of what waits for approval keeps itself fresh, and lets this device ring. Without this script the
// list has a link that looks again, and no device rings.
"use strict";

const workerURL = document.currentScript.dataset.worker;
const parts = ["waiting_count", "inbox"];
const every = 5000; // milliseconds

async function lookAgain() {
  if (document.hidden) return;
  let answer, text;
  try {
    answer = await fetch(location.pathname, { cache: "no-store" });
    text = await answer.text();
  } catch {
    return; // without a network there is nothing new
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(text, "text/html");
  if (!page.getElementById("inbox")) {
    location.reload(); // the login has ended
    return;
  }
  for (const id of parts) {
    const old = document.getElementById(id), fresh = page.getElementById(id);
    if (old.innerHTML === fresh.innerHTML) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceChildren(...fresh.childNodes);
    if (focused) [...old.querySelectorAll("a")].find(a => a.getAttribute("href") === focused)?.focus();
  }
}

setInterval(lookAgain, every);
document.addEventListener("visibilitychange", lookAgain);

const ring = document.getElementById("ring");

function say(id) {
  for (const text of ring.querySelectorAll("[data-state]")) text.hidden = text.dataset.state !== id;
}

async function hashed(text) {
  const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(sum)].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

function send(method, subscription) {
  return fetch(ring.dataset.subscriptions, {
    method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(subscription),
  });
}

async function ringHere(worker) {
  say("asking");
  if (await Notification.requestPermission() !== "granted") return say("refused");
  const old = await worker.pushManager.getSubscription();
  if (old) await old.unsubscribe(); // it may be of another key, or another customer's
  const subscription = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: ring.dataset.key });
  const answer = await send("POST", subscription);
  if (!answer.ok) {
    await subscription.unsubscribe();
    return say("failed");
  }
  say("on");
}

async function silenceHere(worker) {
  const subscription = await worker.pushManager.getSubscription();
  if (subscription) {
    await send("DELETE", { endpoint: subscription.endpoint });
    await subscription.unsubscribe();
  }
  say("off");
}

async function start() {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register(workerURL, { scope: location.pathname });
  navigator.serviceWorker.addEventListener("message", lookAgain);
  if (!ring || !("PushManager" in window)) return;
  const worker = await navigator.serviceWorker.ready;
  const press = (id, action) => document.getElementById(id).addEventListener("click", () => action(worker).catch(() => say("failed")));
  press("ring_button", ringHere);
  press("silence_button", silenceHere);
  const subscription = await worker.pushManager.getSubscription();
  const known = subscription && ring.dataset.ringing.split(" ").includes(await hashed(subscription.endpoint));
  say(known ? "on" : Notification.permission === "denied" ? "refused" : "off");
  ring.hidden = false;
}

start();
