import { existsSync, readFileSync, rmSync } from 'node:fs';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';

/*
 * Loaded into the threads of a node by `--import`: the core that gets a datagram of the peer (`ip:port`) that is named in the file
 * ABORT_CORE_OF finds its memory spoilt, and aborts. Once: the file is removed.
 */

const file = process.env.ABORT_CORE_OF ?? '';
const { receive } = QuicEndpoint.prototype;

QuicEndpoint.prototype.receive = function (bytes, offset, length, peer) {
  if (existsSync(file) && readFileSync(file, 'utf8') === peer) {
    rmSync(file);
    // Nothing that the core believes of its memory is true any more.
    this.datagramTarget.fill(0xff);
  }
  receive.call(this, bytes, offset, length, peer);
};
