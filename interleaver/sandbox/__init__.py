"""A small simulated world that needs no model: subjects to draw, a drawing language, and a backend for every role.

* `primer` loads the subjects with their parts, the shapes and the backgrounds from SVG files.
* `world` defines and renders scenes; `language` and `reading` convert operations to English and back; `sight` and
  `fitting` analyse pixels.
* `planner`, `generator` and `critic` implement the protocols of `interleaver.agents` and `interleaver.tools`.
* `judge` scores steps exactly, from the scenes stored in the pictures; `tasks` samples random steps on which the others
  are measured.

The generator makes mistakes as real ones do, and the critic sees only pixels.
"""
