/** The HTTP binding alone, on loopback, over operations that a spec makes up. */
import {HttpBinding} from '../../lib/rpc/http';
import type {HttpOptions} from '../../lib/rpc/http';
import type {Operation, OperationContext} from '../../lib/rpc/operations';
import {localRole} from '../../lib/rpc/tls';

/** The caller closes it. */
export async function listen(operations: Readonly<Record<string, Operation>>, log: HttpOptions['log'], refused: HttpOptions['refused']): Promise<HttpBinding> {
  const binding = new HttpBinding({
    context: {} as OperationContext,
    operations: new Map(Object.entries(operations)),
    queries: new Map(),
    tls: null,
    authorize: () => localRole,
    maxRequestBytes: 1024,
    maxConnections: 10,
    instance: 'abc:1:2',
    log,
    arrived: () => {},
    refused,
  });
  await new Promise<void>((resolve) => binding.server.listen(0, '127.0.0.1', resolve));
  return binding;
}
