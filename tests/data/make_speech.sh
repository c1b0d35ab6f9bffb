#!/bin/sh
# Makes speech_hello.flac: two synthetic sentences with a pause, 16 kHz mono. Low bits are
# cleared so that the file stays small. Needs espeak-ng, and Python with av and numpy.
set -eu
cd "$(dirname "$0")"
wav=$(mktemp)
trap 'rm -f "$wav"' EXIT
espeak-ng -m -v en-gb -s 150 -w "$wav" '<speak>
Click the button and enter your password. <break time="700ms"/>
The engine failed twice before the rocket reached the second stage.
</speak>'
python3 - "$wav" speech_hello.flac <<'EOF'
import sys

import av
import numpy as np

with av.open(sys.argv[1]) as source:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    pieces = [p.to_ndarray()[0] for f in source.decode(audio=0) for p in resampler.resample(f)]
    pieces += [p.to_ndarray()[0] for p in resampler.resample(None)]
samples = (np.concatenate(pieces) >> 7 << 7).astype(np.int16)
silence = np.zeros(16_000, dtype=np.int16)
samples = np.concatenate([silence, samples, silence])

with av.open(sys.argv[2], "w") as target:
    stream = target.add_stream("flac", rate=16_000, layout="mono", format="s16")
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = 16_000
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        target.mux(packet)
EOF
