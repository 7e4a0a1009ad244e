// Tests and the local cluster wait in the same way, so there is one implementation.
export { StopWaiting, type Truthy, type WaitOptions, waitFor } from '../../deploy/local/wait-for.ts';
