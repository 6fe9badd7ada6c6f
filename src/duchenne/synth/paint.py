"""The procedural texture of a face, evaluated for every pixel by the rendering kernel.

The texture is a function of the position on the *resting template* (mm, see :mod:`duchenne.synth.head`), so it moves
with the skin. Curves below are in the template's frontal plane. Expression lines (furrows) appear with the action units
that fold the skin there. All shapes and amounts in this module are chosen by us; they assume left-right symmetry.
"""

# Kernels are written in Warp's subset of Python, where float(0.0) declares a variable that changes and `in` is missing.
# ruff: noqa: UP018, SIM109

import warp as wp

from duchenne.synth.brush import bell, fade, fold, fractal, line4, segment, step_soft
from duchenne.synth.head import CAVITY, CURTAIN, EYES, LOWER_TEETH, SHOULDERS, TONGUE, UPPER_TEETH

_EYES, _TONGUE, _UPPER, _LOWER = (
    wp.constant(EYES),
    wp.constant(TONGUE),
    wp.constant(UPPER_TEETH),
    wp.constant(LOWER_TEETH),
)
_SHOULDERS, _CURTAIN, _CAVITY = wp.constant(SHOULDERS), wp.constant(CURTAIN), wp.constant(CAVITY)


@wp.struct
class Look:
    """Colours (linear RGB) and amounts of one person (up to 1, below 0 the opposite, or in the unit given)."""

    seed: int
    tone: wp.vec3
    blush: wp.vec3  # colour towards which cheeks, nose and ears shift
    lip: wp.vec3
    hair: wp.vec3
    brow: wp.vec3
    iris: wp.vec3
    cloth: wp.vec3
    gloss: float
    keenness: float  # how much narrower than usual the highlights on the skin are
    texture: float  # blotches and pores
    freckles: float
    age: float  # lines that stay without any expression
    brow_width: float  # mm, half
    brow_arch: float  # mm
    brow_density: float
    brow_shift: wp.vec3  # mm: how much further out the inner end and the tail are, and how much higher both
    brow_drop: float  # mm by which the tail hangs lower
    lash: float
    lash_wing: float  # mm that the upper lashes reach further beyond the corner of the eye
    lid_shade: float  # how much the upper lid and its lashes darken the eye
    lip_edge: wp.vec2  # mm by which the red reaches higher and lower
    lip_fade: wp.vec2  # how much the red of the upper and of the lower lip gives way to dark skin
    lip_heart: float  # how much rosier the lower lip is in its middle
    lip_upper: float  # how much darker the upper lip is
    lip_line: float  # how dark the line between the lips is
    nostril: float  # how much darker the nostrils are than usual
    nose_wing: float  # how dark the crease around the wing of the nose is
    nose_under: float  # how dark the skin below the nose is
    liner: float  # eye make-up
    crease: wp.vec2  # crease of the upper lid: mm higher than usual, and how much darker
    circles: float  # dark skin below the eyes
    socket: float  # dark skin around the eyes
    mottle: float  # pale and dark patches of skin
    stubble: float
    beard: float
    beard_chin: float  # how much of the chin below the lip it covers, 0..1
    bare_lip: float  # how much of the moustache is missing
    bare_jaw: float  # how much of the beard beside the chin is missing
    parting: float  # how bare the groove below the nose is
    patchy: float  # how unevenly the beard grows
    hairline: float  # mm above its usual position
    bald: float
    curl: float


@wp.struct
class Furrows:
    """Strength 0..1 of the expression lines; x: the side at negative x, y: at positive x."""

    forehead_inner: float
    forehead_outer: wp.vec2
    frown: float
    bunny: float
    cheek: wp.vec2  # from the nostril to beside the mouth
    crow: wp.vec2
    pouch: wp.vec2  # below the lower lid
    dimple: wp.vec2
    corner: wp.vec2  # below the corner of the mouth
    chin: float


@wp.struct
class Surface:
    albedo: wp.vec3
    gloss: float
    sharpness: float  # exponent of the highlight
    relief: float  # factor on the light that small folds leave


@wp.func
def hair_depth(p: wp.vec3, hairline: float) -> float:
    """Depth (mm) of a point of the skin inside the hair; negative outside it."""
    x = wp.abs(p[0])
    edge = line4(p[1], -30.0, 60.0, 12.0, 48.0, 30.0, 14.0, 42.0, -22.0)
    edge = wp.where(p[1] > 75.0, line4(p[1], 75.0, -22.0, 90.0, -50.0, 120.0, -62.0, 160.0, -66.0), edge)
    depth = p[2] - edge - hairline * step_soft(60.0, 20.0, x)
    ear = step_soft(72.5, 74.0, x) * step_soft(32.0, 36.0, p[1]) * step_soft(95.0, 90.0, p[1])
    ear = ear * step_soft(30.0, 22.0, p[2])
    return wp.where(ear > 0.5, -10.0, depth)


@wp.func
def lip_edges(x: float, look: Look) -> wp.vec2:
    """Upper and lower edge (z, mm) of the red of the lips."""
    upper = line4(x, 0.0, -60.8, 6.6, -58.4, 17.8, -60.9, 27.6, -67.0)
    lower = line4(x, 0.0, -75.8, 11.0, -74.8, 19.0, -71.8, 27.6, -67.4)
    share = step_soft(27.6, 12.0, x)
    return wp.vec2(upper + share * look.lip_edge[0], lower - share * look.lip_edge[1])


@wp.func
def lip_depth(x: float, z: float, look: Look) -> float:
    """Depth (mm) of a point of the frontal plane inside the red of the lips."""
    edges = lip_edges(x, look)
    return wp.min(wp.min(edges[0] - z, z - edges[1]), 0.5 * (27.6 - x))


@wp.func
def brow_line(t: float, look: Look) -> wp.vec3:
    """Position x and z (mm) of the middle of the brow at 0 (inner end) to 1 (tail), and half its width there.

    A tail that reaches further round the temple also ends lower, by half as much.
    """
    inner = 9.0 + look.brow_shift[0]
    x = inner + t * (52.0 + look.brow_shift[1] - inner)
    z = line4(t, 0.0, 18.2, 0.35, 20.6, 0.68, 20.8, 1.0, 14.0) + look.brow_arch * bell(t - 0.68, 0.3)
    late = wp.max(2.0 * t - 1.0, 0.0)
    z += look.brow_shift[2] - (look.brow_drop + 0.5 * wp.max(look.brow_shift[1], 0.0)) * late * late
    half = look.brow_width * (0.62 + 0.5 * bell(t - 0.3, 0.35)) * line4(t, 0.0, 0.75, 0.1, 1.0, 0.6, 0.9, 1.0, 0.25)
    return wp.vec3(x, z, half)


@wp.func
def brow_cover(x: float, z: float, look: Look, strand: float) -> float:
    inner = look.brow_shift[0]
    outer = look.brow_shift[1]
    line = brow_line(wp.clamp((x - 9.0 - inner) / (43.0 + outer - inner), 0.0, 1.0), look)
    d = wp.abs(z - line[1]) / line[2]
    along = x + 2.0 * strand
    ends = step_soft(7.5 + inner, 11.5 + inner, along) * step_soft(53.5 + outer, 50.0 + outer, along)
    return wp.clamp(step_soft(1.25, 0.55, d + 0.25 * strand) * ends * (look.brow_density + 0.25 * strand), 0.0, 1.0)


@wp.func
def folds(x: float, z: float, p: wp.vec3, side: int, look: Look, f: Furrows, state: wp.uint32) -> float:
    """Sum of all folds at a point; negative is dark."""
    old = look.age
    h = float(0.0)
    if z > 25.0:
        wobble = wp.noise(state, 0.06 * p) * 2.0
        for k in range(3):
            level = 38.0 + 9.0 * float(k) + wobble - 0.002 * x * x
            line = fold(z - level, 1.3) * wp.where(k == 1, 1.0, 0.75)
            inner = (f.forehead_inner + 0.35 * old) * step_soft(26.0, 14.0, x)
            outer = (f.forehead_outer[side] + 0.35 * old) * step_soft(8.0, 18.0, x) * step_soft(48.0, 36.0, x)
            h += 0.8 * line * wp.clamp(inner + outer, 0.0, 1.0)
    if x < 24.0 and z > -20.0 and z < 40.0:
        s = segment(x, z, 6.0, 12.0, 7.5, 32.0)
        h += 1.1 * (f.frown + 0.15 * old) * (0.5 * fold(s[0], 1.4) - 0.5 * bell(s[0], 1.4)) * fade(s[1])
        s = segment(x, z, 0.0, 6.0, 9.0, 3.5)
        h += 0.9 * f.bunny * fold(s[0], 1.3) * step_soft(0.0, 0.3, 1.0 - s[1])
        s = segment(x, z, 5.0, -4.0, 15.0, -12.0)
        h += 0.8 * f.bunny * fold(s[0], 1.3) * fade(s[1])
    if x > 10.0 and x < 60.0 and z < -20.0:
        s = segment(x, z, 18.0, -33.0, 29.5, -46.0)
        r = segment(x, z, 29.5, -46.0, 35.0, -66.0)
        near = wp.where(wp.abs(s[0]) < wp.abs(r[0]), s[0], r[0])
        ends = wp.where(wp.abs(s[0]) < wp.abs(r[0]), step_soft(-0.1, 0.25, s[1]), step_soft(0.0, 0.5, 1.0 - r[1]))
        h += 1.0 * (f.cheek[side] + 0.3 * old) * (fold(near, 2.2) - 0.25 * bell(near + 2.0, 5.0)) * ends
        s = segment(x, z, 32.0, -63.0, 33.0, -72.0)
        h += 1.0 * f.dimple[side] * (-bell(s[0], 1.8)) * fade(s[1])
        s = segment(x, z, 29.0, -69.5, 34.5, -80.0)
        h += 0.9 * (f.corner[side] + 0.2 * old) * (-bell(s[0], 1.6)) * step_soft(0.0, 0.5, 1.0 - s[1])
    if x > 16.0 and z < 25.0 and z > -25.0:
        for k in range(3):
            turn = 1.0 - float(k)
            s = segment(x, z, 47.5, 0.5 + 2.5 * turn, 57.0, 0.5 + 8.0 * turn)
            h += 0.75 * (f.crow[side] + 0.3 * old) * fold(s[0], 1.0) * fade(s[1])
        d = z + 11.5 - 0.012 * (x - 31.0) * (x - 31.0)
        h += (
            0.8
            * (f.pouch[side] + 0.25 * old + 0.08)
            * fold(d, 1.6)
            * step_soft(18.0, 24.0, x)
            * step_soft(44.0, 38.0, x)
        )
    if f.chin > 0.0 and x < 30.0 and z < -75.0:
        h += 0.7 * f.chin * wp.noise(state, 0.45 * p) * bell(x, 14.0) * bell(z + 90.0, 10.0)
    return h


@wp.func
def paint_eye(p: wp.vec3, look: Look, state: wp.uint32) -> Surface:
    s = Surface()
    x = wp.abs(p[0]) - 30.8
    r = wp.sqrt(x * x + p[2] * p[2])
    front = step_soft(-2.0, -6.0, p[1])
    veins = wp.max(wp.noise(state, 0.9 * p), 0.0)
    white = wp.vec3(0.78, 0.74, 0.70) - wp.vec3(0.05, 0.2, 0.2) * (veins * step_soft(6.0, 14.0, r))
    white = white - wp.vec3(0.02, 0.22, 0.2) * step_soft(10.5, 14.0, wp.abs(x))
    angle = wp.atan2(p[2], x)
    spoke = wp.noise(state, wp.vec3(4.0 * wp.cos(angle), 4.0 * wp.sin(angle), 0.35 * r))
    iris = look.iris * (0.75 + 0.45 * spoke + 0.55 * step_soft(5.4, 2.6, r))
    iris = iris * (1.0 - 0.75 * step_soft(4.7, 5.8, r))
    colour = wp.lerp(white, iris, step_soft(6.1, 5.5, r) * front)
    colour = colour * (1.0 - step_soft(2.9, 2.3, r) * front)
    colour = colour * (1.0 - look.lid_shade * (0.3 + 0.5 * step_soft(-1.0, 6.0, p[2])))
    s.albedo = wp.vec3(wp.max(colour[0], 0.004), wp.max(colour[1], 0.004), wp.max(colour[2], 0.004))
    s.gloss = 0.55
    s.sharpness = 260.0
    s.relief = 1.0
    return s


@wp.func
def paint_teeth(p: wp.vec3, upper: int) -> Surface:
    s = Surface()
    x = wp.abs(p[0])
    # widths grow and shrink along the arch: incisors, canine, premolars
    tooth = wp.where(x < 8.0, x / 8.0, 1.0 + (x - 8.0) / 5.5)
    cell = wp.abs(tooth - wp.round(tooth)) * 2.0
    gap = step_soft(0.25, 0.02, cell)
    if upper == 0:
        gap = gap * 0.8
    gum = wp.where(upper == 1, step_soft(-58.6, -57.4, p[2] - 0.9 * gap), step_soft(-76.6, -77.8, p[2] + 0.9 * gap))
    colour = wp.vec3(0.80, 0.75, 0.64) * (1.0 - 0.45 * gap) * (1.0 - 0.35 * step_soft(10.0, 24.0, x))
    s.albedo = wp.lerp(colour, wp.vec3(0.45, 0.14, 0.13), gum)
    s.gloss = 0.35
    s.sharpness = 60.0
    s.relief = 1.0
    return s


@wp.func
def hair_colour(p: wp.vec3, look: Look, state: wp.uint32) -> wp.vec3:
    along = wp.vec3(0.55 * p[0], 0.10 * p[1], 0.10 * p[2])
    strand = (1.0 - look.curl) * fractal(state, along)
    if look.curl > 0.0:
        strand += 1.3 * look.curl * fractal(state, 0.28 * p)
    return look.hair * wp.max(1.0 + 0.75 * strand, 0.15)


@wp.func
def paint_skin(p: wp.vec3, look: Look, f: Furrows, state: wp.uint32) -> Surface:
    s = Surface()
    x = wp.abs(p[0])
    z = p[2]
    side = wp.where(p[0] < 0.0, 0, 1)
    face = step_soft(25.0, 5.0, p[1])
    s.relief = 1.0
    s.sharpness = 14.0 + 40.0 * look.keenness

    inside = hair_depth(p, look.hairline)
    cover = float(0.0)
    if inside > -10.0:
        ragged = 4.0 * wp.noise(state, 0.16 * p) + 2.0 * wp.noise(state, wp.vec3(0.9 * p[0], 0.5 * p[1], 0.12 * z))
        cover = step_soft(-2.5, 3.5, inside + ragged) * (1.0 - look.bald)
    if cover > 0.99:
        s.albedo = hair_colour(p, look, state)
        s.gloss = 0.1
        return s

    blotch = wp.noise(state, 0.035 * p) + 0.5 * wp.noise(state, 0.08 * p)
    pore = wp.noise(state, 0.55 * p)
    colour = look.tone * (1.0 + look.texture * (0.16 * blotch + 0.09 * pore))
    warm = 0.55 * bell(x - 38.0, 17.0) * bell(z + 32.0, 16.0) + 0.5 * bell(x, 14.0) * bell(z + 36.0, 12.0)
    warm += 0.25 * bell(x, 20.0) * bell(z + 100.0, 14.0) + 0.4 * step_soft(73.0, 77.0, x)
    colour = wp.lerp(colour, look.blush, wp.clamp(warm + 0.15 * blotch, 0.0, 0.8))
    if look.mottle > 0.0:
        patch = step_soft(0.1, 0.35, wp.noise(state, 0.05 * p + wp.vec3(7.0, 3.0, 19.0)))
        patch -= step_soft(0.1, 0.35, wp.noise(state, 0.06 * p + wp.vec3(3.0, 29.0, 5.0)))
        colour = colour * (1.0 + 0.25 * look.mottle * patch)
    if look.freckles > 0.0:
        spots = step_soft(0.42, 0.6, wp.noise(state, 0.42 * p + wp.vec3(31.0, 7.0, 3.0)))
        colour = colour * (1.0 - 0.4 * look.freckles * spots * face * bell(z + 25.0, 28.0))
    s.gloss = look.gloss * (0.55 + 0.45 * bell(x, 16.0))
    if p[1] < 25.0:
        s.relief = wp.max(1.0 + 0.5 * folds(x, z, p, side, look, f, state) * face, 0.25)

    if z < -14.0 and look.stubble + look.beard > 0.0:
        grown = step_soft(-44.0, -54.0, z) * step_soft(16.0, -2.0, p[1] + 0.25 * (z + 60.0))
        bare = 1.3 + 8.0 * look.beard_chin  # how fast the bare patch below the lip narrows
        moustache = bell(z + 53.0, 5.0) * step_soft(30.0, 24.0, x)
        moustache = moustache * (1.0 - look.bare_lip) * (1.0 - look.parting * bell(x, 4.0))
        chin = grown * step_soft(10.0, 22.0, x + bare * wp.max(-77.0 - z, 0.0))
        chin = chin * (1.0 - look.bare_jaw * step_soft(24.0, 34.0, x))
        sides = step_soft(-8.0, -50.0, z) * step_soft(50.0, 66.0, x) * step_soft(48.0, 40.0, p[1])
        jaw = wp.max(wp.max(moustache, chin), sides * (1.0 - look.bare_jaw))
        jaw = wp.clamp(jaw * step_soft(-128.0, -112.0, z), 0.0, 1.0)
        if look.patchy > 0.0:
            tuft = fractal(state, wp.vec3(0.16 * p[0], 0.16 * p[1], 0.1 * z))
            jaw = jaw * (1.0 - look.patchy * step_soft(0.2, -0.6, tuft))
        bristle = wp.noise(state, wp.vec3(1.5 * p[0], 1.0 * p[1], 0.7 * z))
        shadow = 0.5 * look.hair + wp.vec3(0.02, 0.02, 0.025)
        colour = wp.lerp(colour, shadow, look.stubble * jaw * (0.45 + 0.2 * bristle))
        thick = look.beard * step_soft(0.15, 0.6, jaw + 0.2 * bristle)
        colour = wp.lerp(colour, look.hair * (0.8 + 0.5 * bristle), 0.92 * thick)
        s.gloss = s.gloss * (1.0 - 0.8 * thick)

    if x < 29.0 and z < -56.0 and z > -80.0 and p[1] < -5.0:
        lip = step_soft(-0.5, 0.9, lip_depth(x, z, look)) * step_soft(-5.0, -9.0, p[1])
        creases = 1.0 + 0.12 * wp.noise(state, wp.vec3(1.1 * p[0], 0.0, 0.15 * z))
        lower = step_soft(-66.4, -68.4, z)
        red = wp.lerp(look.lip, wp.vec3(0.62, 0.22, 0.21), lower * look.lip_heart * bell(z + 70.0, 2.6) * bell(x, 17.0))
        red = wp.lerp(red, 0.72 * look.tone, wp.lerp(look.lip_fade[0], look.lip_fade[1], lower))
        red = red * (1.0 - look.lip_upper * (1.0 - lower))
        colour = wp.lerp(colour, red * creases, 0.85 * lip)
        colour = colour * (1.0 - look.lip_line * bell(z + 66.9, 0.9))
        s.gloss = wp.lerp(s.gloss, 0.28, lip)
        s.sharpness = wp.lerp(s.sharpness, 30.0, lip)

    longer = wp.max(look.brow_shift[1], 0.0)  # mm; such a brow goes further round the temple
    if z > -15.0 and z < 36.0 and x < 60.0 + longer and p[1] < 10.0 + 2.0 * longer:
        # thin skin about the eyes is darker; brows, lashes and the crease of the lid
        rx = (x - 31.0) / 21.0
        rz = (z + 1.0) / 12.0
        socket = wp.exp(-(rx * rx + rz * rz))
        bags = look.circles * bell(x - 29.0, 15.0) * bell(z + 13.0, 6.0)
        shade = wp.vec3(0.13, 0.2, 0.17) * socket + wp.vec3(0.3, 0.34, 0.27) * (look.socket * socket + bags)
        colour = wp.cw_mul(colour, wp.vec3(1.0, 1.0, 1.0) - shade)
        if z > 8.0:
            strand = wp.noise(state, wp.vec3(0.9 * x - 0.5 * z, 0.0, 0.35 * z + 0.5 * x))
            here = brow_cover(x, z, look, strand) * step_soft(8.0, 0.0, p[1] - 2.0 * longer)
            colour = wp.lerp(colour, look.brow, here)
        upper = line4(x, 16.5, -0.9, 24.0, 3.6, 36.0, 5.3, 45.0, 0.6) + 0.7 * bell(x - 31.0, 7.0)
        lower = line4(x, 16.5, -0.9, 24.0, -4.2, 36.0, -4.9, 45.0, 0.4)
        width = step_soft(15.5, 21.0, x) * step_soft(47.5, 44.5, x) * step_soft(-6.0, -9.0, p[1])
        wing = look.lash_wing
        above = step_soft(15.5, 21.0, x) * step_soft(47.5 + wing, 44.5 + wing, x)
        above = above * step_soft(-6.0 + 1.2 * wing, -9.0 + 1.2 * wing, p[1])
        colour = colour * (1.0 - above * look.lash * step_soft(1.7, 0.5, wp.abs(z - upper - 0.1)))
        colour = colour * (1.0 - 0.55 * width * look.lash * step_soft(1.1, 0.3, wp.abs(z - lower + 0.1)))
        colour = colour * (1.0 - 0.5 * above * look.liner * step_soft(4.5, 0.8, wp.abs(z - upper - 1.2)))
        wet = bell(x - 17.2, 1.6) * bell(z + 1.2, 1.6)
        colour = wp.lerp(colour, wp.vec3(0.6, 0.25, 0.22), 0.6 * wet)
        line = above * bell(z - upper - 4.2 - look.crease[0], 0.9)
        s.relief = s.relief * (1.0 - 0.35 * line)
        colour = colour * (1.0 - look.crease[1] * line)
    nostril = bell(x - 7.2, 3.6) * bell(z + 45.2, 2.3) * step_soft(-36.0, -30.0, p[1])
    colour = colour * (1.0 - (0.75 + look.nostril) * nostril)
    if x < 26.0 and z < -28.0 and z > -58.0:
        around = segment(x, z, 18.3, -33.0, 15.3, -44.5)
        colour = colour * (1.0 - look.nose_wing * bell(around[0], 1.5) * fade(around[1]))
        colour = colour * (1.0 - look.nose_under * bell(z + 49.5, 2.5) * step_soft(17.0, 9.0, x))

    if cover > 0.0:
        colour = wp.lerp(colour, hair_colour(p, look, state), cover)
        s.relief = wp.lerp(s.relief, 1.0, cover)
    s.albedo = colour
    return s


@wp.func
def paint(part: int, p: wp.vec3, look: Look, f: Furrows) -> Surface:
    """Colour and gloss of the surface at the template position ``p`` of a ``part`` of the head."""
    state = wp.rand_init(look.seed)
    s = Surface()
    s.relief = 1.0
    s.sharpness = 20.0
    if part == _EYES:
        s = paint_eye(p, look, state)
    elif part == _UPPER or part == _LOWER:
        s = paint_teeth(p, wp.where(part == _UPPER, 1, 0))
    elif part == _TONGUE:
        s.albedo = wp.vec3(0.42, 0.13, 0.12)
        s.gloss = 0.2
    elif part == _CAVITY:
        s.albedo = wp.vec3(0.16, 0.03, 0.025)
        s.gloss = 0.05
    elif part == _CURTAIN:
        s.albedo = hair_colour(p, look, state)
        s.gloss = 0.10
    elif part == _SHOULDERS:
        collar = step_soft(-141.0, -143.0, p[2] + 12.0 * bell(p[0], 40.0) * step_soft(60.0, 0.0, p[1]))
        weave = 1.0 + 0.12 * wp.noise(state, 0.05 * p) + 0.05 * wp.noise(state, 0.9 * p)
        s.albedo = wp.lerp(look.tone, look.cloth * weave, collar)
    else:
        s = paint_skin(p, look, f, state)
    return s
