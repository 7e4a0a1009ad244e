/** What a rebuild or a verification is doing. */
export type Progress =
  /** Tables are made, and filled from the snapshot where there is one. */
  | { readonly phase: 'copy' }
  | {
      readonly phase: 'replay';
      /** Position reached, where it began in this run, and the newest one. */
      readonly position: number;
      readonly from: number;
      readonly through: number;
      /** Projected in this run. */
      readonly records: number;
    }
  | { readonly phase: 'index'; readonly done: number; readonly tables: number }
  | { readonly phase: 'switch' }
  | { readonly phase: 'compare'; readonly done: number; readonly tables: number }
  /** The former tables are dropped. */
  | { readonly phase: 'drop' };

export type OnProgress = (progress: Progress) => void;
