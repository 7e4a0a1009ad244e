/** A way in which clients can open WebTransport sessions. */
export interface WebTransportCarrier {
  /** `http3`: on the node's own HTTP/3. The others are the package's. */
  readonly carrier: 'http3' | 'http2' | 'http3_package';
  /** Where clients find it; null where it is not served. */
  readonly listen: string | null;
  /** Why it is not served; null where it is. */
  readonly problem: string | null;
}

/** What carries sessions on a node with this LISTEN and WEBTRANSPORT_LISTEN. */
export function webTransportCarriers(
  listen: string,
  webTransportListen: string,
  packageProblem: string | null,
): WebTransportCarrier[] {
  const off = webTransportListen === 'off' ? 'WEBTRANSPORT_LISTEN is off' : null;
  const served = (carrier: WebTransportCarrier['carrier'], problem: string | null): WebTransportCarrier => ({
    carrier,
    listen: problem === null ? webTransportListen : null,
    problem,
  });
  return [
    { carrier: 'http3', listen, problem: null },
    served('http2', off),
    served('http3_package', off ?? packageProblem),
  ];
}
