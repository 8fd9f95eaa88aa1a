// Runs the first client's class, unchanged, outside a browser: prints what it does as JSON lines, takes commands on stdin.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n');

// What a browser has and Node lacks. The socket is the global one where Node has it, else that of the package `ws`.
if (typeof globalThis.WebSocket === 'undefined') globalThis.WebSocket = require('ws').WebSocket;
globalThis.Notification = { permission: 'denied' };
globalThis.Audio = class { play() { return Promise.resolve(); } };
globalThis.document = { getElementById: () => null };

const quiet = { log() {}, error(...words) { if (String(words[0]).startsWith('Max reconnection')) say('gave_up'); } };
const source = fs.readFileSync(path.join(__dirname, 'notification_client.js'), 'utf8');
const NotificationClient = new Function('console', `${source}\nreturn NotificationClient;`)(quiet);

const [, , base, token] = process.argv;
const client = new NotificationClient(base, token);

// Its hooks, as an application overrides them; the class itself stays as it is.
client.onNotification = (data) => say('notification', { data });
client.onUnreadCount = (count) => say('unread', { count });
client.onNotificationUpdate = (data) => say('update', { data });
const handle = client.handleMessage.bind(client);
client.handleMessage = (data) => { if (data.type === 'pong') say('pong'); handle(data); };
const connect = client.connect.bind(client);
client.connect = () => {
    connect();
    client.ws.addEventListener('open', () => say('open'));
    client.ws.addEventListener('close', (event) => say('close', { code: event.code }));
};
client.connect();

readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const command = JSON.parse(line);
    if (command.do === 'read') client.markNotificationAsRead(command.id);
    if (command.do === 'ping') client.send({ type: 'ping' });
    if (command.do === 'disconnect') {
        // `disconnect` forgets the socket before it is closed; the event still comes.
        client.disconnect();
    }
}).on('close', () => process.exit(0));
