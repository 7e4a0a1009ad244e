import { existsSync, rmSync } from 'node:fs';
import { Http2Server } from '../../../data-plane/http2/http2-server.ts';

/* Loaded into the threads of a node by `--import`: its web thread fails when there is a file FAIL_WEB_THREAD. Once: the file is removed. */

const file = process.env.FAIL_WEB_THREAD ?? '';
const { sweep } = Http2Server.prototype;

Http2Server.prototype.sweep = function (nowMs) {
  if (existsSync(file)) {
    rmSync(file);
    throw new Error('the test wants it');
  }
  sweep.call(this, nowMs);
};
