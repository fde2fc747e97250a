"""A track beside the pictures that a container does not take ends in a note, never the run; what it takes plays."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import make_clip, make_sound, numbered_picture
from tests.sinks.written import decode, packets, subtitles, times, together, write

MS = Fraction(1, 1000)


def with_tracks(path: Path, *tracks: tuple[str, list[tuple[int, int, bytes]]], num_frames: int = 50) -> Path:
    """A clip with tracks of any bytes: a codec each, and (begin, duration, bytes) in milliseconds of its packets."""
    clip = make_clip(path.with_name("plain.mkv"), num_frames=num_frames)
    with av.open(clip) as source, av.open(path, "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        made: list[av.Packet] = [packet for packet in source.demux(video=0) if packet.dts is not None]
        for packet in made:
            packet.stream = video
        for codec, given in tracks:
            stream = output.add_mux_stream(codec, rate=48000)
            for begin, duration, data in given:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, MS, True
                packet.pts = packet.dts = begin
                packet.duration = duration
                made.append(packet)
        for packet in sorted(made, key=lambda packet: (packet.dts or 0) * packet.time_base):
            output.mux(packet)
    return path


def sine(path: Path, codec: str, *, channels: int = 1, sounding: Sequence[int] | None = None) -> Path:
    """Two seconds of video with 440 Hz at half of full scale in the `sounding` channels, by default in every one."""
    formats = {"pcm_s16le": "s16", "pcm_s24le": "s32", "pcm_s32le": "s32", "pcm_f32le": "flt", "pcm_f64le": "dbl"}
    layout = {1: "mono", 2: "stereo", 3: "2.1", 6: "5.1"}[channels]
    with av.open(path, "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height = 64, 48
        sound: Any = container.add_stream(codec, rate=48000, layout=layout)
        for index in range(50):
            container.mux(video.encode(numbered_picture(index, width=64, height=48)))
        container.mux(video.encode(None))
        wave = 0.5 * np.sin(np.arange(96000) * 440 * 2 * np.pi / 48000)
        loud = np.isin(np.arange(channels), range(channels) if sounding is None else sounding)
        given = av.AudioFrame.from_ndarray(wave * loud[:, None], format="dblp", layout=layout)
        given.sample_rate, given.pts, given.time_base = 48000, 0, Fraction(1, 48000)
        for frame in av.AudioResampler(format=formats[codec], layout=layout, rate=48000).resample(given):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def with_late_sound(path: Path, sound: Path, *, begin: int) -> Path:
    """Pictures five a second until after the sound, which begins after so many seconds."""
    pictures = make_clip(path.with_name(f"pictures{path.suffix}"), num_frames=5 * begin + 20, rate=5)
    several = {"max_delay": "700000"}  # microseconds, of which a .ts packs all sound under one time
    with av.open(path, "w", container_options=several) as output:
        found: list[tuple[Fraction, av.Packet, Any]] = []
        for part, seconds in ((pictures, 0), (sound, begin)):
            with av.open(part) as source:
                target = output.add_stream_from_template(source.streams[0], opaque=seconds > 0)
                each = [packet for packet in source.demux(0) if packet.dts is not None]
                for packet in each:
                    packet.pts += round(seconds / packet.time_base)
                    packet.dts += round(seconds / packet.time_base)
                    found.append((packet.dts * packet.time_base, packet, target))
        for _, packet, target in sorted(found, key=lambda entry: entry[0]):
            packet.stream = target
            output.mux(packet)
    return path


def seconds_of_sound(path: Path) -> float:
    with av.open(path) as container:
        rate = container.streams.audio[0].rate
        return sum(frame.samples for frame in container.decode(audio=0)) / rate


def without_layout(path: Path, target: Path) -> Path:
    """A copy of an mkv that says how many channels its sound has, and not which: what an mkv of PCM always does."""
    with av.open(path) as container:
        assert "channels" in container.streams.audio[0].layout.name
    path.rename(target)
    return target


def first_picture(path: Path) -> Fraction:
    """When it is shown, in seconds on the file's own clock."""
    first = decode(path)[0]
    assert first.pts is not None and first.time_base is not None
    return first.pts * first.time_base


def loudness(path: Path) -> tuple[float, int]:
    """The sound's mean power as a share of full scale, and its number of channels."""
    with av.open(path) as container:
        frames = [
            resampled
            for frame in container.decode(audio=0)
            for resampled in av.AudioResampler(format="fltp", layout=frame.layout, rate=48000).resample(frame)
        ]
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[:, 4800:-4800]
    return float((samples**2).mean()), samples.shape[0]


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_pcm_becomes_sound_that_every_player_of_mp4_knows(tmp_path: Path, codec: str) -> None:
    clip = sine(tmp_path / "in.mov", codec)
    sink = write(clip, tmp_path / "out.mp4")
    with av.open(tmp_path / "out.mp4") as container:
        held = container.streams.audio[0].codec_context.name
    assert held == ("pcm_s16le" if codec == "pcm_s16le" else "aac")
    assert loudness(tmp_path / "out.mp4")[0] == pytest.approx(0.125, rel=0.03)
    notes = [] if codec == "pcm_s16le" else [f"track 1 (audio, {codec}) was converted to aac; a .mov keeps it"]
    assert sink.notes == notes


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_mov_is_not_named_for_pcm_that_it_does_not_keep_either(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / "in.m2ts", num_frames=50, audio="pcm_bluray")
    sink = write(clip, tmp_path / f"out.{ending}")
    assert sink.notes == ["track 1 (audio, pcm_bluray) was converted to aac"]


@pytest.mark.parametrize("codec", ["pcm_s24le", "pcm_f32le"])
@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_pcm_is_copied_where_players_know_it(tmp_path: Path, codec: str, ending: str) -> None:
    clip = sine(tmp_path / "in.mov", codec)
    write(clip, tmp_path / f"out.{ending}")
    before, after = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
    assert b"".join(data for _, data in after) == b"".join(data for _, data in before)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8"])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_pcm_stays_in_step_behind_a_hole_and_an_overlap(tmp_path: Path, ending: str, codec: str) -> None:
    sound = tmp_path / "sound.mkv"
    width, silence = (2, b"\0") if codec == "pcm_s16le" else (1, b"\x80")
    with av.open(sound, "w") as container:
        encoder = container.add_stream(codec, rate=48000, layout="mono")
        encoder.codec_context.open()
        for begin, value in ((0, 1), (500, 2), (1500, 3), (1700, 4)):  # milliseconds; each lasts half a second
            packet = av.Packet(bytes([value]) * 24000 * width)
            packet.stream, packet.time_base, packet.is_keyframe = encoder, MS, True
            packet.pts = packet.dts = begin
            packet.duration = 500
            container.mux(packet)
    clip = together(tmp_path / "in.mkv", make_clip(tmp_path / "plain.mkv", num_frames=55), sound, languages=["und"])
    sink = write(clip, tmp_path / f"out.{ending}")
    found = packets(tmp_path / f"out.{ending}", "audio")
    if (ending, codec) == ("mp4", "pcm_u8"):
        assert sink.notes == ["track 1 (audio, pcm_u8) was converted to aac; a .mov keeps it"]
    elif ending == "mkv":
        assert [(int(time * 1000), data[0], len(data)) for time, data in found] == [
            (begin, value, 24000 * width) for begin, value in ((0, 1), (500, 2), (1500, 3), (1700, 4))
        ]
    else:
        each = ((b"\1", 24000), (b"\2", 24000), (silence, 24000), (b"\3", 24000), (b"\4", 9600))
        assert b"".join(data for _, data in found) == b"".join(byte * samples * width for byte, samples in each)


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_many_channels_of_which_none_says_where_it_stands_are_heard(tmp_path: Path, ending: str, channels: int) -> None:
    clip = without_layout(sine(tmp_path / "made.mkv", "pcm_s16le", channels=channels), tmp_path / "in.mkv")
    write(clip, tmp_path / f"out.{ending}")
    assert len(decode(tmp_path / f"out.{ending}")) == 50
    power, num = loudness(tmp_path / f"out.{ending}")
    assert power > 0.02 and (num == channels or ending != "mkv")


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_channels_in_an_order_of_their_own_are_heard_where_they_stand(tmp_path: Path, ending: str) -> None:
    centre_left_right = (124 << 16 | 6).to_bytes(4, "big")  # Apple's kAudioChannelLayoutTag_MPEG_5_1_D
    clip = sine(tmp_path / "in.mov", "pcm_s24le", channels=6, sounding=[0])
    data = bytearray(clip.read_bytes())
    place = data.index(b"chan") + 8  # behind version and flags
    data[place : place + 4] = centre_left_right
    clip.write_bytes(data)
    write(clip, tmp_path / f"out.{ending}")
    with av.open(tmp_path / f"out.{ending}") as container:
        frames = list(container.decode(audio=0))
    power = np.concatenate([frame.to_ndarray() for frame in frames], axis=1).astype(float).var(axis=1)
    assert frames[0].layout.channels[int(power.argmax())].name == "FC"
    assert sorted(power)[-1] > 100 * sorted(power)[-2]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_packets_shorter_than_a_tick_of_the_input_stay_in_time(tmp_path: Path, ending: str) -> None:
    sound = tmp_path / "sound.mkv"
    with av.open(sound, "w") as container:
        encoder = container.add_stream("flac", rate=48000, layout="mono", options={"frame_size": "24"})
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux([*encoder.encode(frame), *encoder.encode(None)])  # two packets to each millisecond of an mkv
    clip = together(tmp_path / "in.mkv", make_clip(tmp_path / "plain.mkv"), sound, languages=["und"])
    write(clip, tmp_path / f"out.{ending}")
    before, after = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
    assert len(after) == 1000
    assert max(abs(one - other) for (one, _), (other, _) in zip(before, after, strict=True)) <= MS


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_of_an_avi_which_counts_packets_keeps_in_step(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / "in.avi", codec="mpeg4", num_frames=50, audio="mp3", options={"bf": "2"})
    write(clip, tmp_path / f"out.{ending}")
    ahead = [packets(path, "audio")[9][0] - first_picture(path) for path in (clip, tmp_path / f"out.{ending}")]
    assert abs(ahead[0] - ahead[1]) <= MS / 2


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_a_damaged_packet_of_sound_ends_neither_the_run_nor_the_track(tmp_path: Path, ending: str, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, audio=codec)
    data = clip.read_bytes()
    with av.open(clip) as container:
        whole = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for number in (0, 20):
        data = data.replace(whole[number], bytes(len(whole[number])))
    clip.write_bytes(data)
    sink = write(clip, tmp_path / f"out.{ending}")
    before, kept = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
    note = f"damaged packets of track 1 (audio, {codec}) were skipped"
    assert (note in sink.notes) == (ending != "mkv")  # which takes them as they are
    if ending != "webm":  # which has it converted
        assert [data for _, data in kept] == [data for _, data in before if ending == "mkv" or any(data)]
    assert kept[-1][0] > Fraction(19, 10)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("codec", ["aac", "eac3"])
def test_a_recording_of_bad_reception_keeps_its_sound_to_the_end(tmp_path: Path, codec: str, ending: str) -> None:
    clip = make_clip(tmp_path / "in.ts", num_frames=100, audio=codec)
    data, chance = bytearray(clip.read_bytes()), np.random.default_rng(2)
    for packet in chance.choice(np.arange(20, len(data) // 188), len(data) // 188 // 15, replace=False):
        for place in packet * 188 + chance.integers(12, 188, 6):
            data[place] = chance.integers(0, 256)
    clip.write_bytes(data)
    sink = write(clip, tmp_path / f"out.{ending}")
    assert not [note for note in sink.notes if "ends early" in note]
    assert packets(tmp_path / f"out.{ending}", "audio")[-1][0] > Fraction(39, 10)


@pytest.mark.parametrize("kept", [{}, {"start": 1.0}])
def test_a_track_that_begins_behind_what_is_read_for_the_header_ends_no_run(tmp_path: Path, kept: dict) -> None:
    chance = np.random.default_rng(0)

    def noise(index: int) -> av.VideoFrame:  # half a megabyte; FFmpeg looks at five
        return av.VideoFrame.from_ndarray(chance.integers(0, 256, (720, 640), np.uint8), format="yuv420p")

    clip = make_clip(tmp_path / "pictures.flv", num_frames=14, rate=10, width=640, height=480, pictures=noise)
    data = bytearray(clip.read_bytes())
    data += b"\x08\0\0\x04\0\x05\x78\0\0\0\0" + b"\x3e\0\0\0" + b"\0\0\0\x0f"  # a tag of sound, at 1.4 s
    clip.write_bytes(data)
    with av.open(clip) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    write(clip, tmp_path / "out.mp4", kept=kept)
    assert len(decode(tmp_path / "out.mp4")) == (4 if kept else 14)


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_sound_after_a_pause_that_an_mp4_cannot_count_ends_with_a_note(tmp_path: Path, codec: str) -> None:
    sound = tmp_path / "sound.mkv"
    with av.open(sound, "w") as container:
        encoder = container.add_stream(codec, rate=48000, layout="mono")
        for begin in (0, 24 * 3600 * 48000):  # a day has more than 2³¹ ticks of such a clock
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
            container.mux(encoder.encode(frame))
        container.mux(encoder.encode(None))
    clip = together(tmp_path / "in.mkv", make_clip(tmp_path / "plain.mkv"), sound, languages=["und"])
    sink = write(clip, tmp_path / "out.mp4")
    assert len(decode(tmp_path / "out.mp4")) == 10
    what = f"track 1 (audio, {codec}) ends early: a pause of 24.0 hours is longer than an mp4 or a mov holds"
    assert sink.notes == [f"{what}; an .mkv does"]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_sound_that_a_trimmed_recording_hides_stays_unheard(tmp_path: Path, ending: str) -> None:
    whole, clip = make_clip(tmp_path / "whole.mp4", num_frames=75, audio="aac"), tmp_path / "in.mp4"
    with av.open(whole) as source, av.open(clip, "w") as output:
        targets = [output.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(Fraction(int(packet.stream.type == "audio")) / packet.time_base)  # a second is before 0
            packet.dts, packet.pts = packet.dts - shift, packet.pts - shift
            packet.stream = targets[packet.stream.index]
            output.mux(packet)
    with av.open(clip) as container:
        assert sum(packet.is_discard for packet in container.demux(audio=0)) > 40
    write(clip, tmp_path / f"out.{ending}")
    begin = packets(tmp_path / f"out.{ending}", "audio")[0][0] - first_picture(tmp_path / f"out.{ending}")
    assert -Fraction(1, 8) < begin < Fraction(1, 20)  # a tenth of a second is what decoders may need
    assert times(tmp_path / f"out.{ending}") == times(clip)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("codec", ["aac", "mp2"])
@pytest.mark.parametrize("begin", [8, 40])
def test_sound_of_a_transport_stream_that_begins_late_is_whole(
    tmp_path: Path, begin: int, codec: str, ending: str
) -> None:
    """FFmpeg looks at seven seconds to find out about its rate."""
    sound = make_sound(tmp_path / "sound.mkv", codec=codec, seconds=3)
    clip = with_late_sound(tmp_path / "in.ts", sound, begin=begin)
    with av.open(clip) as container:
        assert container.streams.audio[0].rate == 0
    write(clip, tmp_path / f"out.{ending}")
    assert seconds_of_sound(tmp_path / f"out.{ending}") == pytest.approx(3, abs=0.1)
    first = packets(tmp_path / f"out.{ending}", "audio")[0][0] - first_picture(tmp_path / f"out.{ending}")
    assert first == pytest.approx(begin, abs=0.1)


@pytest.mark.parametrize("rate", [7000, 11024, 22222, 96000])
@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_sound_of_any_rate_is_converted(tmp_path: Path, ending: str, rate: int) -> None:
    """AAC has thirteen rates, and cameras have others."""
    noise = np.random.default_rng(0).integers(0, 256, 2 * rate, np.uint8)
    with av.open(tmp_path / "sound.mkv", "w") as container:
        encoder = container.add_stream("pcm_u8", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise[None], format="u8", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux([*encoder.encode(frame), *encoder.encode(None)])
    pictures = make_clip(tmp_path / "pictures.mkv", num_frames=50)
    clip = together(tmp_path / "in.mkv", pictures, tmp_path / "sound.mkv", languages=["und"])
    write(clip, tmp_path / f"out.{ending}")
    with av.open(tmp_path / f"out.{ending}") as container:
        expected = {7000: 7350, 11024: 11025, 22222: 24000, 96000: 48000}[rate] if ending == "mp4" else 48000
        assert container.streams.audio[0].rate == expected
    assert seconds_of_sound(tmp_path / f"out.{ending}") == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("begin", [9, 12])
@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize(("codec", "ending"), [("aac", "webm"), ("pcm_s24le", "mp4")])
def test_sound_that_begins_late_is_converted(
    tmp_path: Path, codec: str, ending: str, another: bool, begin: int
) -> None:
    """Ten seconds of the other sound are looked at; without it a packet, of which AAC's first gives no sound."""
    late = with_late_sound(tmp_path / "in.mkv", make_sound(tmp_path / "s.mkv", codec=codec, seconds=3), begin=begin)
    if another:
        throughout = make_sound(tmp_path / "a.mkv", codec="libopus" if ending == "webm" else "aac", seconds=14)
        late = together(tmp_path / "both.mkv", late, throughout, languages=["und", "und"])
    sink = write(late, tmp_path / f"out.{ending}")
    assert [note.split(" was ")[-1][:12] for note in sink.notes] == ["converted to"]
    assert seconds_of_sound(tmp_path / f"out.{ending}") == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("ending", ["mp4", "mov", "webm"])
def test_a_track_of_which_nothing_decodes_is_left_out_with_a_note(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 60), np.uint8)
    clip = with_tracks(tmp_path / "in.mkv", ("tta", [(20 * i, 20, bytes(row)) for i, row in enumerate(noise)]))
    sink = write(clip, tmp_path / f"out.{ending}")
    assert sink.notes == ["track 1 (audio, tta) is left out: nothing of it could be decoded"]
    with av.open(tmp_path / f"out.{ending}") as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pictures_of_text_whose_end_nobody_knew_last_until_the_next(tmp_path: Path, ending: str) -> None:
    unknown = 2**32 - 1  # milliseconds, which FFmpeg writes for it
    given = [
        (200, unknown, b"\0\x08\0\x04aaaa"),
        (1000, 500, b"\0\x08\0\x04bbbb"),
        (1600, unknown, b"\0\x08\0\x04cccc"),
    ]
    write(with_tracks(tmp_path / "in.mkv", ("dvd_subtitle", given)), tmp_path / f"out.{ending}")
    with av.open(tmp_path / f"out.{ending}") as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(2.0, abs=0.1)
        found = [p for p in container.demux(subtitles=0) if p.size and p.pts is not None]
    spans = [(round(float(p.pts * p.time_base), 2), round(float(p.duration * p.time_base), 2)) for p in found]
    assert spans == [(0.2, 0.8), (1.0, 0.6 if ending == "mp4" else 0.5), (1.6, 0.4)]


@pytest.mark.parametrize("codec", ["dvb_subtitle", "dvd_subtitle"])
def test_pictures_of_text_that_last_until_the_next_are_there_at_a_start_between(tmp_path: Path, codec: str) -> None:
    old, show, hide = (b"\0\x08\0\x04" + letter * 4 for letter in (b"a", b"b", b"c"))
    clip = with_tracks(tmp_path / "in.mkv", (codec, [(0, 0, old), (200, 0, show), (1500, 0, hide)]))
    write(clip, tmp_path / "out.mkv", kept={"start": 1.0})
    assert packets(tmp_path / "out.mkv", "subtitle") == [(0, show), (Fraction(1, 2), hide)]


def test_texts_whose_times_go_back_are_kept_in_their_order(tmp_path: Path) -> None:
    clip = with_tracks(
        tmp_path / "in.mkv", ("subrip", [(400, 500, b"one"), (1000, 400, b"two"), (1500, 200, b"three")])
    )
    data = bytearray(clip.read_bytes())
    place = data.index(b"two") - 3  # a block's time stands before its flags, in two bytes counted from its cluster's
    data[place : place + 2] = (300).to_bytes(2, "big")
    clip.write_bytes(data)
    for ending in ("mp4", "mkv"):
        write(clip, tmp_path / f"out.{ending}")
        assert len(decode(tmp_path / f"out.{ending}")) == 50
        texts = [text for _, _, text in subtitles(tmp_path / f"out.{ending}")]
        assert "three" in texts and any("one" in text for text in texts)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_h265_is_tagged_as_apple_plays_it(tmp_path: Path, ending: str) -> None:
    write(make_clip(tmp_path / "in.mp4"), tmp_path / f"out.{ending}", codec="h265")
    with av.open(tmp_path / f"out.{ending}") as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    assert len(decode(tmp_path / f"out.{ending}")) == 10
