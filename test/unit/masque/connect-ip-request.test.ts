import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseRequestFields, type RequestFields, requestLines } from '../../../data-plane/http3/field-section.ts';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';
import { buildConnectIpRequest, ConnectIpUrlError } from '../../../data-plane/masque/build-connect-ip-request.ts';
import { type ConnectIpDecision, decideConnectIp } from '../../../data-plane/masque/connect-ip-request.ts';
import {
  readConnectIpResponse,
  refusalFields,
  TUNNEL_RESPONSE_FIELDS,
} from '../../../data-plane/masque/connect-ip-response.ts';
import {
  compilePathTemplate,
  DEFAULT_PATH_TEMPLATE,
  InvalidPathTemplateError,
} from '../../../data-plane/masque/path-template.ts';
import { formatPrefix } from '../../../shared/ip/prefix.ts';

const SERVICE = { pathTemplate: compilePathTemplate(DEFAULT_PATH_TEMPLATE) };

function request(path: string, fields: readonly FieldLine[] = [], more: Partial<RequestFields> = {}): RequestFields {
  return {
    method: 'CONNECT',
    protocol: 'connect-ip',
    scheme: 'https',
    authority: 'vpn.example',
    path,
    fields,
    ...more,
  };
}

const scoped = (target: string, ipproto: string) => request(`/.well-known/masque/ip/${target}/${ipproto}/`);
const decide = (one: RequestFields) => decideConnectIp(one, SERVICE);

function text(decision: ConnectIpDecision): string {
  if (decision.kind === 'rejected') {
    return decision.resetCode === undefined ? `${decision.status}` : `S${decision.resetCode.toString(16)}`;
  }
  const { target, protocol } = decision;
  const where = target.kind === 'any' ? '*' : target.kind === 'prefix' ? formatPrefix(target.prefix) : target.hostname;
  return `${where} ${protocol}`;
}

suite('scope', () => {
  for (const [target, ipproto, expected] of [
    ['*', '*', '* any'],
    ['%2A', '%2a', '* any'],
    ['10.0.0.0%2F8', '6', '10.0.0.0/8 6'],
    ['10.0.0.1', '255', '10.0.0.1/32 255'],
    ['2001%3Adb8%3A%3A42', '17', '2001:db8::42/128 17'],
    ['2001:db8::%2F32', '*', '2001:db8::/32 any'],
    ['0.0.0.0%2F0', '0', '0.0.0.0/0 0'],
    ['Host.Example', '*', 'host.example any'],
    ['ho%73t', '*', 'host any'],
    ['', '*', 'S10e'],
    ['*', '', 'S10e'],
    ['%2', '*', 'S10e'],
    ['%zz', '*', 'S10e'],
    ['%00', '*', 'S10e'],
    ['%ff', '*', 'S10e'],
    ['%252A', '*', 'S10e'],
    ['*', '%252A', 'S10e'],
    ['10.0.0.1%2F24', '*', 'S10e'],
    ['10.0.0.0%2F33', '*', 'S10e'],
    ['10.0.0.0%2F', '*', 'S10e'],
    ['10.0.0.0%2F8%2F8', '*', 'S10e'],
    ['10.0.0.256', '*', 'S10e'],
    ['10.0.0', '*', 'S10e'],
    ['%3A%3A%2F129', '*', 'S10e'],
    ['fe80%3A%3A1%25eth0', '*', 'S10e'],
    ['%5B%3A%3A1%5D', '*', 'S10e'],
    ['-bad.example', '*', 'S10e'],
    ['a..b', '*', 'S10e'],
    ['a%20b', '*', 'S10e'],
    [`${'a'.repeat(64)}.example`, '*', 'S10e'],
    ['*', '256', 'S10e'],
    ['*', '-1', 'S10e'],
    ['*', '1e1', 'S10e'],
    ['*', '+6', 'S10e'],
    ['*', '0x6', 'S10e'],
    ['*', '6%20', 'S10e'],
  ] as const) {
    test(`items 10, 11, inputs 33, 34, 9484-4.6 target "${target.slice(0, 30)}" ipproto "${ipproto}" -> ${expected}`, () => {
      assert.equal(text(decide(scoped(target, ipproto))), expected);
    });
  }

  test('any path never throws', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii' }), fc.string(), (target, ipproto) => {
        decide(scoped(target, ipproto));
        decide(request(target));
      }),
    );
  });
});

suite('refusals', () => {
  for (const [item, one, expected] of [
    ['item 8 unknown :protocol', request('/', [], { protocol: 'websocket' }), '501'],
    ['item 8 another path', request('/.well-known/masque/udp/*/*/'), '404'],
    ['item 8 the path without its last slash', request('/.well-known/masque/ip/*/*'), '404'],
    ['item 8 a path with one segment more', request('/.well-known/masque/ip/10.0.0.0/8/*/'), '404'],
    ['item 7 a path without a slash', request('*'), 'S10e'],
    ['item 7 another scheme', request('/', [], { scheme: 'http' }), '400'],
    ['input 32 Content-Length: 0', request('/', [['content-length', '0']]), 'S10e'],
    ['item 7 Content-Type', request('/', [['content-type', 'a/b']]), 'S10e'],
  ] as const) {
    test(`${item} -> ${expected}`, () => assert.equal(text(decide(one)), expected));
  }

  test('a GET is 404, or 405 at the path of the service', () => {
    const get = (path: string): RequestFields => ({ method: 'GET', scheme: 'https', authority: 'a', path, fields: [] });
    assert.equal(text(decide(get('/'))), '404');
    assert.equal(text(decide(get('/.well-known/masque/ip/*/*/'))), '405');
    assert.equal(text(decide({ method: 'CONNECT', authority: 'a:1', fields: [] })), '501');
  });

  test('item 8 an authority that is not served is 421, and :443 can be left out or added', () => {
    const at = (authority: string, served: string) => {
      const service = { ...SERVICE, authorities: [served] };
      return text(decideConnectIp({ ...scoped('*', '*'), authority }, service));
    };
    assert.equal(at('vpn.example:443', 'vpn.example'), '* any');
    assert.equal(at('VPN.example', 'vpn.example:443'), '* any');
    assert.equal(at('vpn.example:4433', 'vpn.example:4433'), '* any');
    assert.equal(at('vpn.example', 'vpn.example:4433'), '421');
    assert.equal(at('other.example', 'vpn.example'), '421');
  });
});

suite('token', () => {
  const token = (one: RequestFields) => {
    const decision = decide(one);
    return decision.kind === 'accepted' ? decision.token : text(decision);
  };
  const path = '/.well-known/masque/ip/*/*/';
  const basic: FieldLine = ['authorization', 'Basic eDp5'];

  for (const [item, one, expected] of [
    [
      'Authorization',
      request(path, [['authorization', 'Bearer aB-._~+/9==']]),
      { value: 'aB-._~+/9==', source: 'authorization' },
    ],
    [
      'any case of the scheme',
      request(path, [['authorization', 'bEARER  t0']]),
      { value: 't0', source: 'authorization' },
    ],
    ['the query', request(`${path}?token=t0`), { value: 't0', source: 'query' }],
    [
      'the query, escaped, among others',
      request(`${path}?a=b&token=t%2B0&token=no`),
      { value: 't+0', source: 'query' },
    ],
    [
      'Authorization before the query',
      request(`${path}?token=q`, [['authorization', 'Bearer h']]),
      { value: 'h', source: 'authorization' },
    ],
    [
      'the query when Authorization is of another scheme',
      request(`${path}?token=q`, [basic]),
      { value: 'q', source: 'query' },
    ],
    ['none', request(path), undefined],
    ['none of another scheme', request(path, [basic]), undefined],
    ['none of an empty parameter', request(`${path}?token=`), undefined],
    ['a broken escape', request(`${path}?token=%zz`), 'S10e'],
  ] as const) {
    test(`from ${item}`, () => assert.deepEqual(token(one), expected));
  }

  test('never appears in the reason of a refusal', () => {
    const secret = 's3cr3t-t0ken';
    const wrong = [
      request(`/${secret}?token=${secret}`),
      request(`/.well-known/masque/ip/${secret}%00/*/?token=${secret}`, [['authorization', `Bearer ${secret}`]]),
      request(`${path}?token=${secret}%zz`),
      request(`${path}?token=${secret}`, [], { authority: secret, scheme: secret }),
    ];
    for (const one of wrong) {
      const decision = decideConnectIp(one, { ...SERVICE, authorities: ['vpn.example'] });
      assert.equal(decision.kind, 'rejected');
      assert.ok(!JSON.stringify(decision).includes(secret));
    }
  });
});

test('item 13 capsule-protocol counts only as boolean true', () => {
  const flag = (...values: string[]) => {
    const fields = values.map((value): FieldLine => ['capsule-protocol', value]);
    const decision = decide({ ...scoped('*', '*'), fields });
    return decision.kind === 'accepted' && decision.capsuleProtocol;
  };
  assert.ok(flag('?1'));
  assert.ok(flag('?1;a=b'));
  for (const values of [[], ['?0'], ['1'], ['true'], ['?1x'], ['?1', '?1']]) assert.ok(!flag(...values));
});

suite('path templates', () => {
  test('a template without variables means everything', () => {
    const service = { pathTemplate: compilePathTemplate('/vpn') };
    assert.equal(text(decideConnectIp(request('/vpn?token=a'), service)), '* any');
    assert.equal(text(decideConnectIp(request('/'), service)), '404');
  });

  for (const bad of ['vpn', '/a?b', '/x{target}', '/{other}', '/{target}/{target}', '/a b']) {
    test(`"${bad}" is refused`, () => assert.throws(() => compilePathTemplate(bad), InvalidPathTemplateError));
  }
});

suite('responses', () => {
  test('item 13 capsule-protocol is in the 200 alone, WWW-Authenticate in the 401', () => {
    assert.deepEqual(TUNNEL_RESPONSE_FIELDS, [['capsule-protocol', '?1']]);
    assert.deepEqual(refusalFields(401), [['www-authenticate', 'Bearer']]);
    for (const status of [400, 403, 404, 421, 431, 501, 503]) assert.deepEqual(refusalFields(status), []);
  });

  for (const [item, status, fields, expected] of [
    ['200', 200, [], 'tunnel'],
    ['201', 201, TUNNEL_RESPONSE_FIELDS, 'tunnel'],
    ['204', 204, [], 'malformed'],
    ['205', 205, [], 'malformed'],
    ['206', 206, [], 'malformed'],
    ['200 with content-length', 200, [['content-length', '0']], 'malformed'],
    ['302', 302, [], 'refused'],
    ['401', 401, [['content-length', '0']], 'refused'],
  ] as const) {
    test(`item 14 ${item} -> ${expected}`, () => assert.equal(readConnectIpResponse(status, fields).kind, expected));
  }
});

suite('the request of our client', () => {
  for (const [url, authority, path] of [
    ['https://vpn.example', 'vpn.example', '/.well-known/masque/ip/%2A/%2A/'],
    ['https://vpn.example:443/', 'vpn.example', '/.well-known/masque/ip/%2A/%2A/'],
    ['https://10.0.0.1:4433/.well-known/masque/ip/*/*/', '10.0.0.1:4433', '/.well-known/masque/ip/*/*/'],
    ['https://[fd00::1]:4433/ip/{target}/{ipproto}/?a=b#c', '[fd00::1]:4433', '/ip/%2A/%2A/?a=b'],
    [new URL('https://vpn.example/{target}/{ipproto}/').href, 'vpn.example', '/%2A/%2A/'],
  ] as const) {
    test(url, () => {
      const built = buildConnectIpRequest(url, 't0');
      assert.equal(built.authority, authority);
      assert.equal(built.path, path);
      assert.deepEqual(parseRequestFields(requestLines(built)), built);
    });
  }

  test('is what our proxy accepts, with the token in Authorization', () => {
    const decision = decide(buildConnectIpRequest('https://vpn.example:4433', 't0'));
    assert.deepEqual(decision, {
      kind: 'accepted',
      target: { kind: 'any' },
      protocol: 'any',
      token: { value: 't0', source: 'authorization' },
      capsuleProtocol: true,
    });
  });

  test('a bad URL or token is refused without being quoted', () => {
    const secret = 's3cr3t';
    for (const [url, token] of [
      [`http://vpn.example/?token=${secret}`, undefined],
      [`${secret}`, undefined],
      [`https://user:${secret}@vpn.example`, undefined],
      [`https://vpn.example/{other}?token=${secret}`, undefined],
      ['https://vpn.example', `${secret}\r\nx: y`],
      ['https://vpn.example', ''],
    ] as const) {
      assert.throws(
        () => buildConnectIpRequest(url, token),
        (error) => error instanceof ConnectIpUrlError && !error.message.includes(secret),
      );
    }
  });
});
