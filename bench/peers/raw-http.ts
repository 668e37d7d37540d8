/** As little HTTP/1.1 as a measurement needs, on a socket: whole answers with a Content-Length, one at a time. */
import type {Socket} from 'node:net';

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** The bytes of one request on a keep-alive connection. */
export function requestText(method: string, path: string, body: object | null): string {
  const json = body === null ? '' : JSON.stringify(body);
  const length = body === null ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${length}\r\n${json}`;
}

/** Calls `onAnswer` for every whole answer that arrives, with the answer that was asked for first. */
export function readAnswers(socket: Socket, onAnswer: (answer: Answer) => void): void {
  let text = '';
  socket.setNoDelay(true);
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    for (;;) {
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end))?.[1];
      if (length === undefined) {
        socket.destroy(new Error(`an answer without a Content-Length: ${text.slice(0, end)}`));
        return;
      }
      const bodyEnd = end + 4 + Number(length);
      if (text.length < bodyEnd) return;
      const answer = {status: Number(text.slice(9, 12)), body: text.slice(end + 4, bodyEnd)};
      text = text.slice(bodyEnd);
      onAnswer(answer);
    }
  });
}
