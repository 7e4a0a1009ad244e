// The part of the WebAssembly JavaScript interface that the QUIC core needs: TypeScript ships it with the DOM's types only.
declare namespace WebAssembly {
  type ExportValue = object | ((...args: never[]) => unknown);
  type ImportValue = ExportValue;
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  class Memory {
    constructor(limits: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
  }
  class Global {
    constructor(type: { value: 'f64' }, value: number);
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, ImportValue>>);
    readonly exports: Record<string, ExportValue>;
  }
  class RuntimeError extends Error {}
}
