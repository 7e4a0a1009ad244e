import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  describeVariables,
  formatHostPort,
  hostPort,
  integer,
  list,
  natsUrl,
  optionalText,
  orUndefined,
  parseConfig,
  text,
  url,
} from '../../../shared/config/parse-config.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

const variables = {
  PORT: { help: 'a port', fallback: '80', ...integer(1, 65_535) },
  NAME: { help: 'a name', ...text('a-z', /^[a-z]+$/) },
  SECRET: { help: 'a secret', secret: true, fallback: 'sesame', ...text('at least 3 characters', /^.{3,}$/) },
  NOTE: { help: 'a note', ...optionalText('anything') },
} as const;

suite('parseConfig', () => {
  test('takes what is given, falls back where nothing or the empty text is, and freezes the result', () => {
    const config = parseConfig(variables, { PORT: '', NAME: 'abc', OTHER: 'x' });
    assert.deepEqual(config, { PORT: 80, NAME: 'abc', SECRET: 'sesame', NOTE: '' });
    assert.ok(Object.isFrozen(config));
  });

  test('an error names the variable, what it got and what it takes', () => {
    assert.throws(() => parseConfig(variables, { NAME: 'abc', PORT: '0' }), {
      code: 'BAD_CONFIG',
      message: 'PORT: got "0", expected a whole number from 1 to 65535',
    });
    assert.throws(() => parseConfig(variables, {}), { message: 'NAME: got nothing, expected a-z' });
    assert.throws(() => parseConfig(variables, { NAME: '' }), /^ConfigError: NAME: got ""/);
  });

  test('a wrong secret is not shown', () => {
    assert.throws(
      () => parseConfig(variables, { NAME: 'abc', SECRET: 'x1' }),
      (error: Error) => {
        assert.match(error.message, /^SECRET: got "\(not shown\)"/);
        assert.ok(!error.message.includes('x1'));
        return true;
      },
    );
  });

  test('help has a line for each variable with its default', () => {
    const lines = describeVariables(variables).split('\n');
    assert.equal(lines.length, 4);
    assert.match(lines[0] ?? '', /^ {2}PORT {4}a port \(a whole number from 1 to 65535; default 80\)$/);
    assert.match(lines[1] ?? '', /required/);
    assert.match(lines[3] ?? '', /optional/);
  });
});

suite('kinds of variables', () => {
  test('integers: digits only, within the bounds', () => {
    const { parse } = integer(-5, 1000);
    fc.assert(fc.property(fc.integer(), (n) => assert.equal(parse(String(n)), n >= -5 && n <= 1000 ? n : undefined)));
    for (const bad of ['', ' 1', '1 ', '1e2', '0x1', '1.0', '+1', 'NaN', 'Infinity', '١'])
      assert.equal(parse(bad), undefined);
  });

  test('host and port: IPv6 in brackets, and back', () => {
    assert.deepEqual(hostPort.parse('127.0.0.1:0'), { host: '127.0.0.1', port: 0 });
    assert.deepEqual(hostPort.parse('[::1]:443'), { host: '::1', port: 443 });
    assert.deepEqual(hostPort.parse('vpn.example:9090'), { host: 'vpn.example', port: 9090 });
    for (const bad of [
      '',
      ':1',
      'a',
      'a:',
      'a:70000',
      '::1:80',
      '[::1]',
      'a b:1',
      'a:1:2',
      '[vpn]:1',
      '[127.0.0.1]:1',
      '999.1.1.1:1',
      '1.2.3:1',
      '[::g]:1',
    ]) {
      assert.equal(hostPort.parse(bad), undefined, bad);
    }
    for (const good of ['127.0.0.1:1', '[fd00::1]:2', 'x:3']) {
      assert.equal(formatHostPort(hostPort.parse(good) ?? { host: '', port: 0 }), good);
    }
  });

  test('URLs: of the named protocols only', () => {
    const { parse, expected } = url('nats:', 'tls:');
    assert.equal(parse('nats://u:p@h:4222'), 'nats://u:p@h:4222');
    for (const bad of ['http://h', 'h:4222', '', 'nats', 'nats://u:100%@h', 'nats:h'])
      assert.equal(parse(bad), undefined);
    assert.equal(expected, 'a URL that starts with nats:// or tls://, user and password percent-encoded');
  });

  test('URLs of NATS: with a host', () => {
    assert.equal(natsUrl.parse('tls://u:p@h'), 'tls://u:p@h');
    for (const bad of ['nats://', 'nats://:4222', 'nats://u:p@', 'nats:h:4222'])
      assert.equal(natsUrl.parse(bad), undefined);
  });

  test('lists: blanks around items are no matter, one bad item spoils all', () => {
    const prefixes = list('prefixes', orUndefined(parsePrefix));
    const { parse } = prefixes;
    assert.equal(parse(' 10.0.0.0/8 ,fd00::/8,')?.length, 2);
    assert.deepEqual(parse(''), []);
    assert.equal(parse('10.0.0.0/8,10.0.0.1/8'), undefined);
    assert.throws(() => parseConfig({ ROUTES: { help: '', ...prefixes } }, { ROUTES: '10.0.0.0/8, 10.0.0.1/8,x' }), {
      message: 'ROUTES: got "10.0.0.1/8", expected prefixes',
    });
  });
});
