// The part of the WebAssembly JavaScript interface that the QUIC core needs: TypeScript ships it with the DOM's types only.
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  class RuntimeError extends Error {}
}
