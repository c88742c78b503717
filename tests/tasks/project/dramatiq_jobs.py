import dramatiq

from project import units

unit = dramatiq.actor(units.unit, actor_name="unit")
