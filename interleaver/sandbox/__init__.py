"""A miniature world that needs no model: subjects to draw, a language to ask for them, and the four who work in it.

* `primer` holds what the world knows: subjects with their parts, shapes, and backgrounds, as SVG files.
* `world` says what a scene is and how it is rendered; `language` and `reading` turn operations into English and back;
  `sight` and `fitting` are what the pixels tell.
* `planner`, `generator` and `critic` meet the protocols of `interleaver.agents` and `interleaver.tools`.
* `judge` knows the scene behind a picture and scores it exactly; `tasks` makes random steps to measure the others on.

The generator misreads prompts as real ones do, and the critic sees nothing but pixels.
"""
