"""Reads and makes the frames of spec/golden with what noded-ganeti has for it: what noded's frames say, and the bytes of its own, as JSON."""
import json
import sys

from noded_ganeti import frames, spool


def read(sample):
    data = bytes.fromhex(sample['hex'])
    size = frames.whole_frame(data, 0)
    kind, content = frames.read_frame(data, 0, size)
    if kind == 'S':
        names = ('key', 'flags', 'uid', 'gid', 'nice')
        return dict({name: getattr(content, name) for name in names}, type='S', file_bytes=content.fsize, program=content.program.decode(),
                    env=[variable.decode() for variable in content.env], args=content.args.decode(), accepted=content.accepted.decode())
    if kind == 'P':
        return {'type': kind, 'key': content[0], 'args': content[1].decode()}
    if kind == 'K':
        return {'type': kind, 'key': content[0], 'signal': 'kill' if content[1] == frames.KILL else 'terminate'}
    if kind == 'G':
        return {'type': kind, 'segment': content}
    return {'type': kind}


def make(f):
    kind = f['type']
    if kind in 'LAE':
        at = spool.Moment(f['wall_ms'], f['boot_ms'])
    if kind == 'N':
        return frames.name(f['function'])
    if kind == 'W':
        return frames.welcome(f['pid'])
    if kind in 'LA':
        return (frames.live if kind == 'L' else frames.started)(f['key'], f['pid'], f['start_time'], at)
    if kind == 'O':
        return frames.output(f['key'], 1 if f['stream'] == 'stdout' else 2, f['text'].encode())
    if kind == 'E':
        sizes = [frames.SIZE_UNKNOWN if f[name] is None else f[name] for name in ('stdout_bytes', 'stderr_bytes')]
        return frames.ended(f['key'], f['kind'], f['code'], f['stage'], at, (f['user_us'], f['system_us'], f['max_rss_kib']), sizes)
    if kind == 'B':
        return frames.busy(f['key'])
    if kind == 'G':
        return frames.segment(f['segment'])
    return frames.message(f['text'])


with open(sys.argv[1], encoding='utf-8') as golden:
    samples = json.load(golden)
# It leaves all output in files.
own = [sample for sample in samples['from_fork_server'] if sample.get('noted') is None]
# What it writes is ASCII; other text comes in lines that noded has sealed.
lines = [spool._sealed(line['key'], line['json']).hex() for line in samples['log_lines'] if line['json'].isascii()]
json.dump({'lines': lines, 'read': [read(sample) for sample in samples['from_noded']], 'made': {sample['name']: make(sample).hex() for sample in own}}, sys.stdout)
