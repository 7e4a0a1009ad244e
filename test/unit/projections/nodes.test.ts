import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evolveNode, loseNode } from '../../../control-plane/projections/nodes.ts';
import { at, SampleNode, sampled } from './sample-events.ts';

test('a new process says that the earlier ones are over, and since when', () => {
  const sample = new SampleNode('node-a');
  const first = evolveNode(undefined, sample.started(0));
  assert.equal(first.news.type, 'none');
  const second = evolveNode(first.node, sampled(sample, 30, []));
  assert.equal(second.node.lastEventAt, Date.parse(at(30)));
  const third = evolveNode(second.node, sample.started(60));
  assert.deepEqual(third.news, { type: 'new_incarnation', lastSignAt: Date.parse(at(30)) });
  assert.equal(third.node.startedAt, Date.parse(at(60)));
});

test('a lost node is back with the first event that it wrote after the loss', () => {
  const sample = new SampleNode('node-a');
  const { node } = evolveNode(undefined, sample.started(0));
  const lost = loseNode(node, sample.incarnation, Date.parse(at(20)));
  assert.equal(lost?.state, 'lost');
  assert.equal(evolveNode(lost, sampled(sample, 15, [])).node.state, 'lost');
  const back = evolveNode(lost, sampled(sample, 25, [])).node;
  assert.deepEqual([back.state, back.lostAt], ['up', null]);
});

test('only the newest process of a node can be lost, and not one that ended in order', () => {
  const sample = new SampleNode('node-a');
  const old = evolveNode(undefined, sample.started(0)).node;
  const former = sample.incarnation;
  const { node } = evolveNode(old, sample.started(1));
  assert.equal(loseNode(node, former, 0)?.state, 'up');
  const stopped = evolveNode(node, sample.event('node.stopped', 2, { reason: 'SIGTERM' })).node;
  assert.equal(loseNode(stopped, sample.incarnation, 0)?.state, 'stopped');
  assert.equal(loseNode(undefined, former, 0), undefined);
});
