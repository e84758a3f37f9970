// The reference datapath passes the suite whole.
import { conformance } from '#datapath/conformance.ts';
import { referenceHarness } from './harness.ts';

conformance('reference', referenceHarness);
