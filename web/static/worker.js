// Rings when the server says that something waits, and leads to the list. What was sent names nobody and nothing.
"use strict";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));

const pages = () => self.clients.matchAll({ type: "window", includeUncontrolled: true });
const isList = page => new URL(page.url).pathname === texts.page;

self.addEventListener("push", event => {
  let { title, body } = texts;
  try {
    const sent = event.data.json();
    if (typeof sent.title === "string" && sent.title !== "") ({ title, body = "" } = sent);
  } catch {
    // nothing, or nothing that can be read: it rings all the same
  }
  event.waitUntil((async () => {
    await self.registration.showNotification(title, { body, icon: texts.icon, badge: texts.icon, tag: "approvals", renotify: true });
    for (const page of await pages()) if (isList(page)) page.postMessage("look");
  })());
});

self.addEventListener("notificationclick", event => {
  event.notification.close();
  event.waitUntil((async () => {
    const open = (await pages()).find(isList);
    return open ? open.focus() : self.clients.openWindow(texts.page);
  })());
});
